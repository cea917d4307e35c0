// Time, waiting and memory of pipeline schedules, against closed forms and tables.
#include "parallel/pipeline/simulate.h"

#include <algorithm>
#include <optional>

#include "tests/parallel/schedules.h"
#include "tests/support/catch.h"

namespace jevons {
namespace {

using namespace test;
using enum PipelineKind;

Approx near(double value) {
  return Approx(value).epsilon(1e-12).margin(1e-9);
}

double largest_peak(const PipelineFigures& figures) {
  double peak = 0;
  for (const RankFigures& rank : figures.ranks) peak = std::max(peak, rank.peak);
  return peak;
}

struct Expected {
  std::optional<double> makespan;
  std::vector<double> peaks, held;  // by rank; empty: no formula
};

template <class F>
std::vector<double> by_rank(int ranks, F f) {
  std::vector<double> values;
  for (int r = 0; r < ranks; ++r) values.push_back(f(r));
  return values;
}

// In units of F = B = W of a rank's share. P ranks, m micro-batches, rank r.
Expected closed_form(const PipelineOptions& options) {
  const double P = options.ranks, m = static_cast<double>(options.micro_batches), v = options.virtual_stages;
  const auto ranks = [&](auto f) { return by_rank(options.ranks, f); };
  const auto none = ranks([](double) { return 0.0; });
  switch (options.kind) {
    case k1F1B:
      return {3 * (m + P - 1), ranks([&](double r) { return std::min(m, P - r); }), none};
    case kInterleaved: {
      Expected expected{.makespan = {}, .peaks = {}, .held = none};
      if (options.micro_batches % options.ranks == 0) expected.makespan = 3 * m + 3 * (P - 1) / v;
      if (m < P) expected.makespan = 3 * P + 3 * (m - 1) / v;
      if (options.micro_batches % options.ranks == 0 && m >= 2 * P)
        expected.peaks = ranks([&](double r) { return ((v - 1) * P + 2 * (P - 1 - r) + 1) / v; });
      return expected;
    }
    case kZbH1:
      return {m >= P ? 3 * m + P - 1 : 2 * P + 2 * m - 1, ranks([&](double) { return std::min(m, P); }),
              ranks([&](double r) { return std::min(m, r + 1); })};
    case kZbV: {
      Expected expected{};
      if (m <= P) expected.makespan = 2 * P + 2 * m - 1;
      if (m < 2 * P - 1) return expected;
      return {3 * m + (P - 1) / 2, ranks([&](double) { return P; }), ranks([](double r) { return r + 0.5; })};
    }
    case kDualPipeV:
      return {3 * m + P - 1, ranks([&](double) { return P + 0.5; }),
              ranks([](double r) { return (r + 1) / 2; })};
  }
  return {};
}

PipelineFigures figures_of(const PipelineSchedule& schedule, const StageTimes& rank = {}, double hop = 0) {
  return simulate(schedule, equal_times(schedule.shape, rank, hop));
}

PipelineFigures figures_of(PipelineKind kind, int ranks, std::int64_t micro_batches,
                           const StageTimes& rank = {}, double hop = 0) {
  return figures_of(generate_schedule(options_of(kind, ranks, micro_batches)), rank, hop);
}

std::vector<std::int64_t> depths_by_stage(const PipelineSchedule& schedule) {
  const PipelineFigures figures = figures_of(schedule);
  std::vector<std::int64_t> depths;
  for (std::int64_t s = 0; s < schedule.shape.stages(); ++s) {
    const auto rank = static_cast<std::size_t>(schedule.shape.rank_of(s));
    depths.push_back(figures.ranks[rank].ring_depth[static_cast<std::size_t>(schedule.shape.chunk_of(s))]);
  }
  return depths;
}

}  // namespace

TEST_CASE("makespan, peaks and weight gradients held back in closed form", "[schedule]") {
  std::vector<std::int64_t> micro_batches = from_to(1, 40);
  micro_batches.insert(micro_batches.end(), {48, 64});
  std::vector<int> ranks;
  for (int p = 2; p <= 16; ++p) ranks.push_back(p);
  std::vector<PipelineOptions> kinds;
  for (const PipelineKind kind : kKinds) kinds.push_back(options_of(kind, 1, 1));
  for (const int v : {3, 4}) kinds.push_back({kInterleaved, 1, 1, v});
  for (PipelineOptions options : kinds) {
    for (const PipelineSchedule& schedule : accepted(options, ranks, micro_batches)) {
      options.ranks = schedule.shape.ranks, options.micro_batches = schedule.shape.micro_batches;
      const Expected want = closed_form(options);
      const PipelineFigures have = figures_of(schedule);
      INFO(name_of(options.kind) << " P " << options.ranks << " m " << options.micro_batches << " v "
                                 << options.virtual_stages);
      if (want.makespan) REQUIRE(have.makespan == near(*want.makespan));
      for (std::size_t r = 0; r < have.ranks.size(); ++r) {
        if (!want.peaks.empty()) REQUIRE(have.ranks[r].peak == near(want.peaks[r]));
        if (!want.held.empty()) REQUIRE(have.ranks[r].weights_held == near(want.held[r]));
        REQUIRE(have.ranks[r].busy == near(3.0 * static_cast<double>(options.micro_batches)));
        REQUIRE(have.ranks[r].idle == near(have.makespan - have.ranks[r].busy));
      }
    }
  }
}

TEST_CASE("idle time in general", "[schedule]") {
  for (const StageTimes t : {StageTimes{1, 1, 1}, StageTimes{1, 1.2, 0.8}, StageTimes{1, 1.1, 0.6}}) {
    const double F = t.forward, B = t.backward_input, W = t.backward_weight;
    for (const int P : {2, 4, 8}) {
      const std::int64_t m = 4 * P;
      const auto idle = [&](PipelineKind kind) { return figures_of(kind, P, m, t).ranks.front().idle; };
      CHECK(idle(k1F1B) == near((P - 1) * (F + B + W)));
      CHECK(idle(kInterleaved) == near((P - 1) * (F + B + W) / 2));
      CHECK(idle(kZbH1) == near((P - 1) * (F + B - W)));
    }
  }
}

TEST_CASE("makespan and largest peak of schedules", "[schedule]") {
  struct Row {
    int ranks;
    std::int64_t micro_batches;
    std::vector<std::pair<double, double>> figures;  // 1F1B, interleaved v 2, v 4, ZB-H1, ZB-V, DualPipeV
  };
  const std::vector<Row> rows = {
      {2, 1, {{6, 1}, {6, 1}, {6, 1}, {5, 1}, {5, 1}}},
      {2, 2, {{9, 2}, {7.5, 2}, {6.75, 2}, {7, 2}, {7, 2}}},
      {2, 4, {{15, 2}, {13.5, 2.5}, {12.75, 2.25}, {13, 2}, {12.5, 2}, {13, 2.5}}},
      {2, 8, {{27, 2}, {25.5, 2.5}, {24.75, 2.25}, {25, 2}, {24.5, 2}, {25, 2.5}}},
      {2, 16, {{51, 2}, {49.5, 2.5}, {48.75, 2.25}, {49, 2}, {48.5, 2}, {49, 2.5}}},
      {2, 32, {{99, 2}, {97.5, 2.5}, {96.75, 2.25}, {97, 2}, {96.5, 2}, {97, 2.5}}},
      {2, 64, {{195, 2}, {193.5, 2.5}, {192.75, 2.25}, {193, 2}, {192.5, 2}, {193, 2.5}}},
      {4, 1, {{12, 1}, {12, 1}, {12, 1}, {9, 1}, {9, 1}}},
      {4, 2, {{15, 2}, {13.5, 2}, {12.75, 2}, {11, 2}, {11, 2}}},
      {4, 4, {{21, 4}, {16.5, 4}, {14.25, 4}, {15, 4}, {15, 4}}},
      {4, 8, {{33, 4}, {28.5, 5.5}, {26.25, 4.75}, {27, 4}, {25.5, 4}, {27, 4.5}}},
      {4, 16, {{57, 4}, {52.5, 5.5}, {50.25, 4.75}, {51, 4}, {49.5, 4}, {51, 4.5}}},
      {4, 32, {{105, 4}, {100.5, 5.5}, {98.25, 4.75}, {99, 4}, {97.5, 4}, {99, 4.5}}},
      {4, 64, {{201, 4}, {196.5, 5.5}, {194.25, 4.75}, {195, 4}, {193.5, 4}, {195, 4.5}}},
      {8, 1, {{24, 1}, {24, 1}, {24, 1}, {17, 1}, {17, 1}}},
      {8, 2, {{27, 2}, {25.5, 2}, {24.75, 2}, {19, 2}, {19, 2}}},
      {8, 4, {{33, 4}, {28.5, 4}, {26.25, 4}, {23, 4}, {23, 4}}},
      {8, 8, {{45, 8}, {34.5, 8}, {29.25, 8}, {31, 8}, {31, 8}}},
      {8, 16, {{69, 8}, {58.5, 11.5}, {53.25, 9.75}, {55, 8}, {51.5, 8}, {55, 8.5}}},
      {8, 32, {{117, 8}, {106.5, 11.5}, {101.25, 9.75}, {103, 8}, {99.5, 8}, {103, 8.5}}},
      {8, 64, {{213, 8}, {202.5, 11.5}, {197.25, 9.75}, {199, 8}, {195.5, 8}, {199, 8.5}}},
      {16, 1, {{48, 1}, {48, 1}, {48, 1}, {33, 1}, {33, 1}}},
      {16, 2, {{51, 2}, {49.5, 2}, {48.75, 2}, {35, 2}, {35, 2}}},
      {16, 4, {{57, 4}, {52.5, 4}, {50.25, 4}, {39, 4}, {39, 4}}},
      {16, 8, {{69, 8}, {58.5, 8}, {53.25, 8}, {47, 8}, {47, 8}}},
      {16, 16, {{93, 16}, {70.5, 16}, {59.25, 16}, {63, 16}, {63, 16}}},
      {16, 32, {{141, 16}, {118.5, 23.5}, {107.25, 19.75}, {111, 16}, {103.5, 16}, {111, 16.5}}},
      {16, 64, {{237, 16}, {214.5, 23.5}, {203.25, 19.75}, {207, 16}, {199.5, 16}, {207, 16.5}}},
  };
  for (const Row& row : rows) {
    std::vector<PipelineOptions> columns;
    for (const PipelineKind kind : kKinds) columns.push_back(options_of(kind, row.ranks, row.micro_batches));
    columns.insert(columns.begin() + 2, {kInterleaved, row.ranks, row.micro_batches, 4});
    for (std::size_t c = 0; c < row.figures.size(); ++c) {
      const PipelineFigures figures = figures_of(generate_schedule(columns[c]));
      INFO(name_of(columns[c].kind) << " P " << row.ranks << " m " << row.micro_batches);
      CHECK(figures.makespan == near(row.figures[c].first));
      CHECK(largest_peak(figures) == near(row.figures[c].second));
    }
  }
}

TEST_CASE("rings of micro-batches in flight", "[schedule]") {
  const auto depths = [](PipelineKind kind, int ranks, int v, std::int64_t m) {
    return depths_by_stage(generate_schedule({kind, ranks, m, v}));
  };
  for (const int P : {2, 3, 4, 8}) {
    for (const std::int64_t m : {2 * P, 2 * P + 3, 4 * P}) {
      std::vector<std::int64_t> falling, constant, folded;
      for (int s = 0; s < P; ++s) falling.push_back(P - s), constant.push_back(P);
      for (int s = 0; s < 2 * P; ++s) folded.push_back(2 * P - s);
      INFO("P " << P << " m " << m);
      CHECK(depths(k1F1B, P, 1, m) == falling);
      CHECK(depths(kZbH1, P, 1, m) == constant);
      CHECK(depths(kZbV, P, 2, m) == folded);
      CHECK(depths(kDualPipeV, P, 2, m) == folded);
    }
  }
  CHECK(depths(kInterleaved, 4, 2, 16) == std::vector<std::int64_t>{8, 8, 7, 5, 4, 4, 3, 1});
  CHECK(depths(kInterleaved, 4, 4, 16) ==
        std::vector<std::int64_t>{8, 8, 8, 8, 8, 8, 7, 5, 4, 4, 4, 4, 4, 4, 3, 1});
}

TEST_CASE("unequal times, messages that take time, stages of unequal depth", "[schedule]") {
  const auto makespans = [](int ranks, std::int64_t m, const StageTimes& rank, double hop) {
    std::vector<double> values;
    for (const PipelineKind kind : kKinds) values.push_back(figures_of(kind, ranks, m, rank, hop).makespan);
    return values;
  };
  const auto check = [](const std::vector<double>& have, const std::vector<double>& want) {
    for (std::size_t k = 0; k < kKinds.size(); ++k) {
      INFO(name_of(kKinds[k]));
      CHECK(have[k] == near(want[k]));
    }
  };
  // Beyond m (F + B + W).
  check(makespans(8, 32, {1, 1.2, 0.8}, 0), {96 + 21, 96 + 10.5, 96 + 9.8, 96 + 4.2, 96 + 8.6});
  check(makespans(8, 32, {1, 1.1, 0.6}, 0),
        {86.4 + 18.9, 86.4 + 9.45, 86.4 + 10.5, 86.4 + 3.85, 86.4 + 8.75});
  check(makespans(8, 32, {}, 0.1), {123.8, 109.5, 105.8, 102.8, 110.7});
  check(makespans(8, 32, {}, 0.25), {134, 114, 110, 107.75, 123});

  // Of 32 layers, the head as dear as 2 of them.
  const auto with_layers = [](PipelineKind kind, const std::vector<double>& layers) {
    PipelineTimes times;
    for (const double n : layers) times.stages.push_back({n, n, n});
    return simulate(generate_schedule(options_of(kind, 4, 8)), times).makespan;
  };
  const std::vector<double> even = {8, 8, 8, 10}, uneven = {8, 8, 8, 8}, even8 = {4, 4, 4, 4, 4, 4, 4, 6},
                            uneven8(8, 4);
  CHECK(with_layers(k1F1B, even) == near(312));
  CHECK(with_layers(k1F1B, uneven) == near(264));
  CHECK(with_layers(kZbH1, even) == near(264));
  CHECK(with_layers(kZbH1, uneven) == near(216));
  CHECK(with_layers(kZbV, even8) == near(246));
  CHECK(with_layers(kZbV, uneven8) == near(204));
  CHECK(with_layers(kDualPipeV, even8) == near(240));
  CHECK(with_layers(kDualPipeV, uneven8) == near(216));
  CHECK(with_layers(kInterleaved, even8) == near(276));
  CHECK(with_layers(kInterleaved, uneven8) == near(228));
}

TEST_CASE("slack behind a rank's last action", "[schedule]") {
  const std::vector<std::vector<double>> slack = {
      {0, 2, 4, 6}, {0, 1, 2, 3}, {0, 0, 0, 0}, {1.5, 1, 0.5, 0}, {0, 0, 0, 0}};
  for (std::size_t k = 0; k < kKinds.size(); ++k) {
    const PipelineFigures figures = figures_of(kKinds[k], 4, 16);
    INFO(name_of(kKinds[k]));
    for (std::size_t r = 0; r < 4; ++r) CHECK(figures.ranks[r].slack == near(slack[k][r]));
  }
}

TEST_CASE("pairs hide expert exchanges", "[schedule]") {
  struct Row {
    double exchange;
    std::array<double, 6>
        makespans;  // 1F1B, interleaved v 2, ZB-V, DualPipeV, interleaved v 2 and v 4 with pairs
  };
  const std::array<Row, 4> rows = {{{0, {213, 202.5, 195.5, 199, 202.5, 197.25}},
                                    {0.25, {248.5, 236.25, 228.375, 204.125, 206.5, 201.25}},
                                    {0.5, {284, 270, 261.25, 209.25, 210.5, 205.25}},
                                    {1, {355, 337.5, 327, 219.5, 218.5, 213.25}}}};
  const std::array<double, 6> peaks = {8, 11.5, 8, 8.5, 12, 10};
  const std::array<PipelineOptions, 6> columns = {{{k1F1B, 8, 64},
                                                   {kInterleaved, 8, 64, 2},
                                                   {kZbV, 8, 64, 2},
                                                   {kDualPipeV, 8, 64, 2},
                                                   {kInterleaved, 8, 64, 2, PipelineOverlap::kPairs},
                                                   {kInterleaved, 8, 64, 4, PipelineOverlap::kPairs}}};
  for (const Row& row : rows) {
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const PipelineFigures figures = figures_of(generate_schedule(columns[c]), {1, 1, 1, row.exchange});
      INFO("exchange " << row.exchange << ", column " << c);
      CHECK(figures.makespan == near(row.makespans[c]));
      CHECK(largest_peak(figures) == near(peaks[c]));
    }
  }
}

// Makespan and peak of interleaved with pairs where nothing has to be hidden.
TEST_CASE("pairs alone cost half a share of memory and no time", "[schedule]") {
  for (const int P : {2, 4, 8}) {
    for (const int v : {2, 4}) {
      for (const std::int64_t m : {2 * P, 4 * P, 8 * P}) {
        const PipelineFigures plain = figures_of(generate_schedule({kInterleaved, P, m, v}));
        const PipelineFigures pairs =
            figures_of(generate_schedule({kInterleaved, P, m, v, PipelineOverlap::kPairs}));
        INFO("P " << P << " v " << v << " m " << m);
        CHECK(pairs.makespan == near(plain.makespan));
        CHECK(largest_peak(pairs) == near(largest_peak(plain) + 1.0 / v));
      }
    }
  }
}

}  // namespace jevons
