#include "tests/state/ledger_bed.h"

#include <nlohmann/json.hpp>

namespace jevons::test {
namespace {

using nlohmann::ordered_json;

constexpr std::int64_t kTokensPerStep = 100;

ordered_json beat_json(const char* kind, const HandMadeLedger::Beat& beat) {
  ordered_json json = {{"kind", kind},
                       {"launch", beat.id},
                       {"time", beat.time},
                       {"elapsed", beat.elapsed},
                       {"step", beat.step},
                       {"tokens", beat.step * kTokensPerStep},
                       {"device_seconds", {{"init", beat.init}, {"compute", beat.compute}}},
                       {"energy_joules", beat.joules ? ordered_json(*beat.joules) : ordered_json(nullptr)}};
  for (const Branch& b : beat.branches) json["branches"].push_back({{"id", b.id}, {"after", b.after}});
  return json;
}

}  // namespace

HandMadeLedger& HandMadeLedger::launch(const Start& start) {
  ordered_json price = nullptr;
  if (start.price) price = *start.price;
  ordered_json record = {{"kind", "launch"},
                         {"version", start.begins ? 1 : 2},
                         {"launch", start.id},
                         {"run", "hand-made"},
                         {"start_time", start.time},
                         {"elapsed", 0.0},
                         {"hosts", {"a", "b"}},
                         {"device_type", start.type},
                         {"devices", start.devices},
                         {"price_per_device_hour", price},
                         {"currency", start.currency},
                         {"project", start.project},
                         {"purpose", start.purpose},
                         {"model_flops_per_token", start.flops_per_token},
                         {"peak_tflops", start.peak_tflops},
                         {"git_id", "0123abc"},
                         {"layout", "dp 2"},
                         {"total_steps", start.total_steps}};
  if (start.begins) {
    record["start_step"] = start.step;
    record["start_tokens"] = start.step * kTokensPerStep;
  }
  return raw(seal_ledger_line(record.dump()) + "\n");
}

HandMadeLedger& HandMadeLedger::heartbeat(const Beat& beat) {
  return raw(seal_ledger_line(beat_json("heartbeat", beat).dump()) + "\n");
}

HandMadeLedger& HandMadeLedger::starting(const Beat& beat) {
  ordered_json record = beat_json("heartbeat", beat);
  record["step"] = record["tokens"] = nullptr;
  return raw(seal_ledger_line(record.dump()) + "\n");
}

HandMadeLedger& HandMadeLedger::exit(const Beat& beat, const std::string& reason, int code) {
  ordered_json record = beat_json("exit", beat);
  record["reason"] = reason;
  record["code"] = code;
  return raw(seal_ledger_line(record.dump()) + "\n");
}

HandMadeLedger& HandMadeLedger::raw(const std::string& line) {
  text += line;
  return *this;
}

}  // namespace jevons::test
