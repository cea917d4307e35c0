#include "trainer/cost/ledger_json.h"

namespace jevons {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// A figure whose 0 means unknown.
ordered_json known(double value) {
  return value > 0 ? ordered_json(value) : ordered_json(nullptr);
}

}  // namespace

std::optional<double> known_number(const json& record, const char* name) {
  const auto found = record.find(name);
  if (found == record.end() || found->is_null()) return std::nullopt;
  return found->get<double>();
}

ordered_json info_json(const std::string& kind, const LaunchInfo& info, double start_time, double elapsed) {
  return {{"kind", kind},
          {"version", kLedgerVersion},
          {"launch", info.launch},
          {"run", info.run},
          {"start_time", start_time},
          {"elapsed", elapsed},
          {"hosts", info.hosts},
          {"device_type", info.device_type.empty() ? ordered_json(nullptr) : ordered_json(info.device_type)},
          {"devices", info.devices},
          {"price_per_device_hour", or_null(info.price_per_device_hour)},
          {"currency", info.currency},
          {"price_source", info.price_source},
          {"model_flops_per_token", known(info.model_flops_per_token)},
          {"peak_tflops", known(info.peak_tflops)},
          {"project", info.project},
          {"purpose", info.purpose},
          {"git_id", info.git_id},
          {"layout", info.layout},
          {"total_steps", info.total_steps}};
}

LaunchInfo launch_info(const json& record) {
  LaunchInfo info;
  info.launch = record.at("launch");
  info.run = record.at("run");
  info.hosts = record.at("hosts").get<std::vector<std::string>>();
  if (const json& type = record.at("device_type"); !type.is_null()) info.device_type = type;
  info.devices = record.at("devices");
  info.price_per_device_hour = known_number(record, "price_per_device_hour");
  info.currency = record.at("currency");
  info.project = record.at("project");
  info.purpose = record.at("purpose");
  info.git_id = record.at("git_id");
  info.layout = record.at("layout");
  // Records of the first ledgers lack what follows.
  info.total_steps = record.value("total_steps", std::int64_t{0});
  info.price_source = record.value("price_source", "");
  info.model_flops_per_token = known_number(record, "model_flops_per_token").value_or(0);
  info.peak_tflops = known_number(record, "peak_tflops").value_or(0);
  return info;
}

ordered_json totals_json(const std::optional<Totals>& totals, double init) {
  ordered_json phases;
  if (!totals)
    return {{"step", nullptr},
            {"tokens", nullptr},
            {"device_seconds", {{name_of(Phase::kInit), init}}},
            {"energy_joules", nullptr}};
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    phases[name_of(static_cast<Phase>(p))] = totals->device_seconds[p];
  }
  ordered_json json = {{"step", totals->step},
                       {"tokens", totals->tokens},
                       {"device_seconds", phases},
                       {"energy_joules", or_null(totals->energy_joules)}};
  if (totals->total_steps > 0) json["total_steps"] = totals->total_steps;
  for (const Branch& branch : totals->lineage.branches()) {
    json["branches"].push_back({{"id", branch.id}, {"after", branch.after}});
  }
  return json;
}

std::string ledger_line(const ordered_json& record) {
  // Text that is not UTF-8 (a file name in an error) loses a character, not the record.
  return seal_ledger_line(record.dump(-1, ' ', false, ordered_json::error_handler_t::replace)) + "\n";
}

}  // namespace jevons
