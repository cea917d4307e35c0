#include "trainer/run/watchdog_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "parallel/host_exchange.h"

namespace jevons {
namespace {

using nlohmann::ordered_json;

const char* name_of(Pass pass) {
  return pass == Pass::kForward ? "forward" : pass == Pass::kBackward ? "backward" : "";
}

// "all_reduce 57 over world".
std::string describe_call(const WorkerPlace& p) {
  std::string text = fmt::format("{} {} over {}", p.collective, p.number, p.over);
  if (p.peer >= 0) text += fmt::format(" with rank {} of it", p.peer);
  return text;
}

using RanksByText = std::map<std::string, std::vector<int>>;

// Who is elsewhere when every rank waits in a collective: those whose collective the fewest are in.
std::string describe_mismatch(const RanksByText& by_call) {
  const auto size = [](const auto& a) { return a.second.size(); };
  std::size_t fewest = size(*by_call.begin()), most = fewest;
  for (const auto& group : by_call) {
    fewest = std::min(fewest, size(group)), most = std::max(most, size(group));
  }
  std::string text = "The ranks wait for each other in different collectives";
  if (fewest == most) return text + ".\n";
  text += ":";
  for (const auto& [call, ranks] : by_call) {
    if (ranks.size() == fewest) text += fmt::format(" {} in {},", list_ranks(ranks), call);
  }
  text.back() = '.';
  return text + " A collective was left out or called once too often.\n";
}

// When every rank lives and waits, what lies between the hosts may be at fault.
std::string suspect_network(const std::vector<RankIdentity>& ranks) {
  std::vector<std::string> hosts;
  for (const RankIdentity& identity : ranks) hosts.push_back(identity.host);
  if (std::ranges::all_of(hosts, [&](const std::string& host) { return host == hosts.front(); })) return "";
  return fmt::format("Every worker lives and waits for others: see whether the network carries between {}.\n",
                     list_hosts(hosts));
}

std::string list_places(const RanksByText& by_place) {
  constexpr std::size_t kMost = 16;
  std::string text;
  std::size_t listed = 0;
  for (const auto& [place, ranks] : by_place) {
    if (++listed > kMost) return text + fmt::format("  and {} other places\n", by_place.size() - kMost);
    text += fmt::format("  {}: {}\n", list_ranks(ranks), place);
  }
  return text;
}

}  // namespace

std::string describe_position(const WorkerPlace& p) {
  std::string text =
      p.step == 0 ? "before the first step" : fmt::format("{}step {}", p.in_step ? "" : "after ", p.step);
  if (p.micro_batch >= 0) text += fmt::format(", micro-batch {}", p.micro_batch);
  if (!p.action.empty()) text += fmt::format(", pipeline action {}", p.action);
  if (p.pass != Pass::kNone) text += fmt::format(", {} of layer {}", name_of(p.pass), p.layer);
  return text;
}

std::string describe(const WorkerPlace& p) {
  const std::string text = fmt::format("{}, phase {}", describe_position(p), jevons::name_of(p.phase));
  if (p.in_collective) return text + ", inside " + describe_call(p);
  const std::string last = p.number == 0 ? "none" : describe_call(p);
  if (p.awaits_device) return text + ", waits for its device, whose last collective is " + last;
  return p.number == 0 ? text : text + ", in no collective, the last was " + last;
}

std::string describe_dispatch(const WorkerPlace& p) {
  if (p.tokens_sent.empty()) return "";
  return fmt::format("; its last dispatch sent {} and received {} tokens, by rank of ep",
                     fmt::join(p.tokens_sent, ", "), fmt::join(p.tokens_received, ", "));
}

std::string to_json(const RankReport& report, const RankIdentity& identity, const std::string& reason) {
  const WorkerPlace& p = report.place;
  const ordered_json json = {{"rank", report.rank},
                             {"host", identity.host},
                             {"process", identity.process},
                             {"reason", reason},
                             {"idle_seconds", report.idle_seconds},
                             {"step", p.step},
                             {"in_step", p.in_step},
                             {"micro_batch", p.micro_batch},
                             {"action", p.action},
                             {"layer", p.layer},
                             {"pass", name_of(p.pass)},
                             {"phase", jevons::name_of(p.phase)},
                             {"in_collective", p.in_collective},
                             {"awaits_device", p.awaits_device},
                             {"collective", p.collective},
                             {"over", p.over},
                             {"number", p.number},
                             {"peer", p.peer},
                             {"tokens_sent", p.tokens_sent},
                             {"tokens_received", p.tokens_received},
                             {"where", describe(p)}};
  return json.dump(1) + "\n";
}

RankReport parse_rank_report(std::string_view text) {
  try {
    const auto json = nlohmann::json::parse(text);
    RankReport report{.rank = json.at("rank"), .idle_seconds = json.at("idle_seconds"), .place = {}};
    WorkerPlace& p = report.place;
    p.step = json.at("step"), p.in_step = json.at("in_step"), p.micro_batch = json.at("micro_batch");
    p.layer = json.at("layer"), p.action = json.at("action");
    const std::string pass = json.at("pass"), phase = json.at("phase");
    for (Pass known : {Pass::kForward, Pass::kBackward}) {
      if (pass == name_of(known)) p.pass = known;
    }
    for (std::size_t i = 0; i < kNumPhases; ++i) {
      if (phase == jevons::name_of(static_cast<Phase>(i))) p.phase = static_cast<Phase>(i);
    }
    p.in_collective = json.at("in_collective"), p.awaits_device = json.at("awaits_device");
    p.number = json.at("number"), p.peer = json.at("peer");
    p.collective = json.at("collective").get<std::string>(), p.over = json.at("over").get<std::string>();
    p.tokens_sent = json.at("tokens_sent").get<std::vector<std::int64_t>>();
    p.tokens_received = json.at("tokens_received").get<std::vector<std::int64_t>>();
    return report;
  } catch (const nlohmann::json::exception& e) {
    fail(ExitCode::kData, "not a rank's report: {}", e.what());
  }
}

std::string summarise(const std::vector<RankIdentity>& ranks, const std::vector<RankReport>& reports) {
  std::map<int, const RankReport*> by_rank;
  for (const RankReport& report : reports) by_rank[report.rank] = &report;
  std::string missing;
  std::vector<int> late;
  RanksByText by_call, by_place;
  for (const RankIdentity& identity : ranks) {
    const auto found = by_rank.find(identity.rank);
    if (found == by_rank.end()) {
      missing += fmt::format("Missing, gave no sign of life: rank {} (process {} on {}).\n", identity.rank,
                             identity.process, identity.host);
      continue;
    }
    const WorkerPlace& place = found->second->place;
    by_place[describe(place)].push_back(identity.rank);
    if (place.in_collective || place.awaits_device) {
      by_call[describe_call(place)].push_back(identity.rank);
    } else {
      late.push_back(identity.rank);
    }
  }
  std::string text = missing;
  if (!late.empty()) {
    text +=
        fmt::format("Late, {} in no collective: {}.\n", late.size() == 1 ? "is" : "are", list_ranks(late));
  }
  if (missing.empty() && late.empty()) {
    if (by_call.size() > 1) text += describe_mismatch(by_call);
    text += suspect_network(ranks);
  }
  return text + list_places(by_place);
}

}  // namespace jevons
