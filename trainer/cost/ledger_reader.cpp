#include "trainer/cost/ledger_reader.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "trainer/cost/ledger_json.h"
#include "trainer/cost/lives.h"

namespace jevons {
namespace {

using nlohmann::json;

// Wall clock against steady clock: what lies below this is drift and adjustment.
constexpr double kClockTolerance = 5;  // seconds

// Step and tokens are null until steps begin.
Totals totals_of(const json& record) {
  Totals totals;
  if (!record.at("step").is_null()) {
    totals.step = record.at("step");
    totals.tokens = record.at("tokens");
  }
  totals.energy_joules = known_number(record, "energy_joules");
  totals.total_steps = record.value("total_steps", std::int64_t{0});
  for (const json& branch : record.value("branches", json::array())) {
    totals.lineage.take({branch.at("id"), branch.at("after")});
  }
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

// The end is the last beat. What lies between the beat before and it is init before the first step, shutdown
// after the exit record, and else in no phase.
void add_end(Launch& launch) {
  if (launch.beats.empty()) launch.beats.push_back({launch.start_time, 0, {}, true});
  if (!launch.end) return;
  const Heartbeat& last = launch.beats.back();
  Heartbeat end = last;
  end.elapsed = std::max(last.elapsed, launch.end->elapsed);
  end.time += end.elapsed - last.elapsed;
  auto& seconds = end.totals.device_seconds;
  if (last.starting) {
    seconds[static_cast<std::size_t>(Phase::kInit)] = launch.end->allocated;
  } else if (launch.exit) {
    const double before = last.elapsed * static_cast<double>(launch.info.devices);
    seconds[static_cast<std::size_t>(Phase::kShutdown)] += std::max(0.0, launch.end->allocated - before);
  }
  launch.beats.push_back(end);
}

// What a start could not know before its launch record is as in the next launch that has one, or the one
// before.
void complete_info(std::vector<Launch>& launches) {
  const auto full = [](const Launch& launch) { return launch.has_record && !launch.early; };
  for (auto launch = launches.begin(); launch != launches.end(); ++launch) {
    if (!launch->early) continue;
    auto like = std::find_if(launch, launches.end(), full);
    if (like == launches.end()) {
      const auto before = std::find_if(std::reverse_iterator(launch), launches.rend(), full);
      if (before == launches.rend()) continue;
      like = std::prev(before.base());
    }
    LaunchInfo& info = launch->info;
    if (!info.device_type.empty() && info.device_type != like->info.device_type) continue;
    info.device_type = like->info.device_type;
    if (!info.price_per_device_hour) {
      info.price_per_device_hour = like->info.price_per_device_hour;
      info.currency = like->info.currency, info.price_source = like->info.price_source;
    }
    if (info.peak_tflops <= 0) info.peak_tflops = like->info.peak_tflops;
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

  LedgerContents take_contents() { return std::move(contents_); }

 private:
  void report(const std::string& what) {
    contents_.problems.push_back(fmt::format("line {}: {}", number_, what));
  }

  void take(const json& record) {
    const std::string kind = record.at("kind");
    if (kind == "launch" || kind == "start") return take_launch(record);
    if (kind == "end") {
      launch_named(record.at("launch")).end = {record.at("elapsed"), record.at("allocated")};
      return;
    }
    if (kind != "heartbeat" && kind != "exit")
      return report(fmt::format("unknown record '{}', skipped", kind));
    const Heartbeat beat{record.at("time"), record.at("elapsed"), totals_of(record),
                         record.at("step").is_null()};
    std::optional<Launch::Exit> exit;
    if (kind == "exit") exit = {record.at("reason").get<std::string>(), record.at("code").get<int>()};
    Launch& launch = launch_named(record.at("launch"));
    if (!add_beat(launch, beat)) return;
    if (!beat.starting && !launch.start) {
      launch.start = {beat.totals.step, beat.totals.tokens, beat.totals.lineage};
    }
    if (beat.totals.total_steps > 0) launch.info.total_steps = beat.totals.total_steps;
    if (exit) launch.exit = exit;
  }

  void take_launch(const json& record) {
    if (record.at("version").get<int>() > kLedgerVersion) report("written by a newer version of the program");
    const LaunchInfo info = launch_info(record);
    const double start_time = record.at("start_time");
    Heartbeat first{start_time, record.at("elapsed"), {}, true};
    first.time += first.elapsed;
    first.totals.device_seconds[static_cast<std::size_t>(Phase::kInit)] =
        first.elapsed * static_cast<double>(info.devices);
    Launch& launch = launch_named(record.at("launch"));
    if (launch.has_record) return report(fmt::format("second record of launch {}, skipped", launch.id));
    launch.has_record = true;
    launch.early = record.at("kind") == "start";
    launch.info = info;
    launch.start_time = start_time;
    // Version 1 wrote the record when it knew where the launch begins.
    if (record.contains("start_step")) launch.start = {record["start_step"], record.at("start_tokens"), {}};
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

LedgerContents read_ledger_records(const std::string& path) {
  const std::string text = read_text_file(path);
  Reader reader(path);
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    ++number;
    if (end > begin) reader.line(number, text.substr(begin, end - begin));
    begin = end + 1;
  }
  return reader.take_contents();
}

LedgerContents read_ledger(const std::string& path) {
  LedgerContents contents = read_ledger_records(path);
  const std::string directory = std::filesystem::path(path).parent_path().string();
  add_lives(read_lives(directory, contents.problems), contents);
  complete_info(contents.launches);
  for (Launch& launch : contents.launches) {
    place_start(launch);
    if (!launch.has_record) {
      contents.problems.push_back(
          fmt::format("launch {}: its launch record is lost; device type and price are unknown", launch.id));
    }
    if (!launch.exit) {
      contents.problems.push_back(
          fmt::format("launch {}: no exit record (killed, or still running); counted to its last {}",
                      launch.id, launch.end ? "sign of life" : "heartbeat"));
    }
    add_end(launch);
  }
  return contents;
}

}  // namespace jevons
