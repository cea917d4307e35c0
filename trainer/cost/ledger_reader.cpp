#include "trainer/cost/ledger_reader.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

namespace jevons {
namespace {

using nlohmann::json;

constexpr int kNewestVersion = 2;
// Wall clock against steady clock: what lies below this is drift and adjustment.
constexpr double kClockTolerance = 5;  // seconds

// Nothing when the member is absent or null.
std::optional<double> known_number(const json& record, const char* name) {
  const auto found = record.find(name);
  if (found == record.end() || found->is_null()) return std::nullopt;
  return found->get<double>();
}

LaunchInfo launch_info(const json& record) {
  LaunchInfo info;
  info.run = record.at("run");
  info.hosts = record.at("hosts").get<std::vector<std::string>>();
  info.device_type = record.at("device_type");
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

// Step and tokens are null until steps begin.
Totals totals_of(const json& record) {
  Totals totals;
  if (!record.at("step").is_null()) {
    totals.step = record.at("step");
    totals.tokens = record.at("tokens");
  }
  totals.energy_joules = known_number(record, "energy_joules");
  const json& phases = record.at("device_seconds");
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    totals.device_seconds[p] = phases.value(name_of(static_cast<Phase>(p)), 0.0);
  }
  return totals;
}

// Time before the first step belongs to where that step is.
void place_start(Launch& launch) {
  if (!launch.start) return;
  for (Heartbeat& beat : launch.beats) {
    if (!beat.starting) continue;
    beat.totals.step = launch.start->step;
    beat.totals.tokens = launch.start->tokens;
  }
}

class Reader {
 public:
  explicit Reader(std::string path) { contents_.path = std::move(path); }

  void line(std::int64_t number, const std::string& text) {
    number_ = number;
    const LineSeal seal = check_ledger_line(text);
    if (seal == LineSeal::kBroken) return report("checksum mismatch, skipped");
    const json record = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object()) return report("torn or not JSON, skipped");
    if (seal == LineSeal::kNone) report("has no checksum (written by hand?), counted as it stands");
    try {
      take(record);
    } catch (const json::exception& e) {
      report(fmt::format("skipped: {}", e.what()));
    }
  }

  LedgerContents finish() {
    for (Launch& launch : contents_.launches) {
      place_start(launch);
      if (!launch.has_record) {
        contents_.problems.push_back(fmt::format(
            "launch {}: its launch record is lost; device type and price are unknown", launch.id));
      }
      if (!launch.exit) {
        contents_.problems.push_back(
            fmt::format("launch {}: no exit record (killed, or still running); counted to its last heartbeat",
                        launch.id));
      }
    }
    return std::move(contents_);
  }

 private:
  void report(const std::string& what) {
    contents_.problems.push_back(fmt::format("line {}: {}", number_, what));
  }

  void take(const json& record) {
    const std::string kind = record.at("kind");
    if (kind == "launch") return take_launch(record);
    if (kind != "heartbeat" && kind != "exit")
      return report(fmt::format("unknown record '{}', skipped", kind));
    const Heartbeat beat{record.at("time"), record.at("elapsed"), totals_of(record),
                         record.at("step").is_null()};
    std::optional<Launch::Exit> exit;
    if (kind == "exit") exit = {record.at("reason").get<std::string>(), record.at("code").get<int>()};
    Launch& launch = launch_named(record.at("launch"));
    if (!add_beat(launch, beat)) return;
    if (!beat.starting && !launch.start) launch.start = {beat.totals.step, beat.totals.tokens};
    if (exit) launch.exit = exit;
  }

  void take_launch(const json& record) {
    if (record.at("version").get<int>() > kNewestVersion) report("written by a newer version of the program");
    const LaunchInfo info = launch_info(record);
    const double start_time = record.at("start_time");
    Heartbeat first{start_time, record.at("elapsed"), {}, true};
    first.time += first.elapsed;
    first.totals.device_seconds[static_cast<std::size_t>(Phase::kInit)] =
        first.elapsed * static_cast<double>(info.devices);
    Launch& launch = launch_named(record.at("launch"));
    if (launch.has_record) return report(fmt::format("second record of launch {}, skipped", launch.id));
    launch.has_record = true;
    launch.info = info;
    launch.start_time = start_time;
    // Version 1 wrote the record when it knew where the launch begins.
    if (record.contains("start_step")) launch.start = {record["start_step"], record.at("start_tokens")};
    launch.beats.insert(launch.beats.begin(), first);
  }

  Launch& launch_named(const std::string& id) {
    auto& launches = contents_.launches;
    const auto found =
        std::find_if(launches.begin(), launches.end(), [&](const Launch& l) { return l.id == id; });
    if (found != launches.end()) return *found;
    launches.push_back({});
    launches.back().id = id;
    return launches.back();
  }

  bool add_beat(Launch& launch, const Heartbeat& beat) {
    if (!launch.beats.empty()) {
      const Heartbeat& before = launch.beats.back();
      if (!(beat.elapsed >= before.elapsed)) {
        report("its elapsed time runs backwards, skipped");
        return false;
      }
      const double jump = (beat.time - before.time) - (beat.elapsed - before.elapsed);
      if (std::abs(jump) > kClockTolerance) {
        report(fmt::format("the wall clock moved by {:+.0f} s; times are those of the steady clock", jump));
      }
    }
    launch.beats.push_back(beat);
    return true;
  }

  LedgerContents contents_;
  std::int64_t number_ = 0;
};

}  // namespace

LedgerContents read_ledger(const std::string& path) {
  const std::string text = read_text_file(path);
  Reader reader(path);
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    ++number;
    if (end > begin) reader.line(number, text.substr(begin, end - begin));
    begin = end + 1;
  }
  return reader.finish();
}

}  // namespace jevons
