// What is concluded from the reports of ranks.
#include "trainer/run/watchdog_report.h"
#include "tests/data/temp_files.h"
#include "tests/support/catch.h"

namespace jevons {
namespace {

std::vector<RankIdentity> job(int size) {
  std::vector<RankIdentity> ranks;
  for (int r = 0; r < size; ++r) ranks.push_back({r, "node", 100 + r});
  return ranks;
}

RankReport inside(int rank, const char* collective, std::int64_t number) {
  Whereabouts whereabouts;
  whereabouts.begin_step(7);
  whereabouts.begin({.name = collective, .over = "world", .number = number, .peer = -1});
  return {.rank = rank, .idle_seconds = 5, .place = whereabouts.now()};
}

RankReport computing(int rank) {
  Whereabouts whereabouts;
  whereabouts.begin_step(7);
  whereabouts.micro_batch(1);
  whereabouts.layer(Pass::kBackward, 3);
  return {.rank = rank, .idle_seconds = 5, .place = whereabouts.now()};
}

// Its host has given the device a collective and waits for all work.
RankReport awaiting_device(int rank, const char* collective, std::int64_t number) {
  Whereabouts whereabouts;
  whereabouts.begin_step(7);
  whereabouts.begin({.name = collective, .over = "ep", .number = number, .peer = -1});
  whereabouts.end_collective();
  whereabouts.await_device();
  return {.rank = rank, .idle_seconds = 5, .place = whereabouts.now()};
}

}  // namespace

TEST_CASE("ranks that wait for their devices are not late", "[watchdog]") {
  const std::string text = summarise(
      job(4), {awaiting_device(0, "all_gather", 8), awaiting_device(1, "all_gather", 8), computing(3)});
  CHECK(contains(text, "Missing, gave no sign of life: rank 2"));
  CHECK(contains(text, "Late, is in no collective: rank 3.\n"));
  CHECK(contains(text,
                 "ranks 0-1: step 7, phase init, waits for its device, whose last collective is "
                 "all_gather 8 over ep"));
  const std::string mixed =
      summarise(job(3), {awaiting_device(0, "all_gather", 8), awaiting_device(1, "all_gather", 7),
                         awaiting_device(2, "all_gather", 8)});
  CHECK(contains(mixed, "different collectives: rank 1 in all_gather 7 over ep."));
}

TEST_CASE("the summary names ranks that are missing and ranks that are late", "[watchdog]") {
  const std::string text = summarise(
      job(6), {inside(0, "barrier", 4), inside(1, "barrier", 4), computing(3), inside(5, "barrier", 4)});
  CHECK(contains(text, "Missing, gave no sign of life: rank 2 (process 102 on node)."));
  CHECK(contains(text, "Missing, gave no sign of life: rank 4 (process 104 on node)."));
  CHECK(contains(text, "Late, is in no collective: rank 3."));
  CHECK(contains(text, "ranks 0-1, 5: step 7, phase init, inside barrier 4 over world"));
  CHECK(contains(text, "rank 3: step 7, micro-batch 1, backward of layer 3, phase init"));
}

TEST_CASE("the summary names the rank that left a collective out", "[watchdog]") {
  const std::string text =
      summarise(job(3), {inside(0, "barrier", 4), inside(1, "all_reduce", 4), inside(2, "barrier", 4)});
  CHECK(contains(text, "different collectives: rank 1 in all_reduce 4 over world."));
  const std::string even = summarise(job(2), {inside(0, "barrier", 4), inside(1, "all_reduce", 4)});
  CHECK(contains(even, "wait for each other in different collectives.\n"));
  CHECK(contains(even, "rank 0: step 7, phase init, inside barrier 4 over world"));
}

TEST_CASE("when every rank of several hosts waits, the summary says between which hosts", "[watchdog]") {
  std::vector<RankIdentity> ranks = job(4);
  ranks[2].host = ranks[3].host = "other";
  const std::vector<RankReport> waiting = {inside(0, "all_reduce", 4), inside(1, "all_reduce", 4),
                                           inside(2, "barrier", 3), inside(3, "barrier", 3)};
  CHECK(contains(summarise(ranks, waiting),
                 "see whether the network carries between node (ranks 0-1) and other (ranks 2-3)."));
  CHECK(!contains(summarise(job(4), waiting), "network"));
  CHECK(!contains(summarise(ranks, {waiting[0], waiting[1], waiting[2], computing(3)}), "network"));
  CHECK(!contains(summarise(ranks, {waiting[0], waiting[1], waiting[2]}), "network"));
}

TEST_CASE("a rank's report survives its file", "[watchdog]") {
  Whereabouts whereabouts;
  PhaseClock clock;
  clock.report_to(whereabouts);
  whereabouts.begin_step(9);
  whereabouts.layer(Pass::kForward, 2);
  const std::vector<std::int64_t> sent = {4, 12}, received = {9, 3};
  whereabouts.dispatch(sent, received);
  const PhaseScope phase(&clock, Phase::kDispatch);
  const CollectiveScope scope(&whereabouts, {.name = "send", .over = "ep", .number = 11, .peer = 1});
  const RankReport report{.rank = 1, .idle_seconds = 2.5, .place = whereabouts.now()};
  CHECK(describe(report.place) ==
        "step 9, forward of layer 2, phase dispatch, inside send 11 over ep with rank 1 of it");
  CHECK(describe_dispatch(report.place) ==
        "; its last dispatch sent 4, 12 and received 9, 3 tokens, by rank of ep");
  const RankReport again = parse_rank_report(to_json(report, {1, "node", 101}, "no progress"));
  CHECK(again.rank == 1);
  CHECK(again.idle_seconds == 2.5);
  CHECK(describe(again.place) == describe(report.place));
  CHECK(describe_dispatch(again.place) == describe_dispatch(report.place));
  CHECK_THROWS_AS(parse_rank_report("{\"rank\": 1}"), Error);
}

}  // namespace jevons
