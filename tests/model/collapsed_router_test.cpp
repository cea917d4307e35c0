// Routers that send everything to a few experts, so that ranks have nothing to send, to receive, or neither:
// forward, backward, losses and gradient norm on every layout against one worker.
#include <algorithm>

#include "tests/model/layout_grid.h"
#include "tests/support/catch.h"

namespace jevons::test {
namespace {

// A model in which all tokens choose `experts`, by selection biases that no score comes near.
GridModel collapsed_onto(const std::vector<std::int64_t>& experts) {
  GridModel model{tiny_moe()};
  model.config.moe.router.top_k = std::ssize(experts);
  model.prepare = [experts](Model& placed) {
    std::size_t biases = 0;
    for (const StateTensor& state : placed.state()) {
      for (std::int64_t expert : experts) state.value.ptr<double>()[expert] = 100;
      ++biases;
    }
    ENSURE(biases > 0, "no selection bias to collapse the router with");
  };
  return model;
}

const std::vector<GridPoint> kLayouts = {
    {.layout = {.dp = 2, .ep = 2}, .zero_stage = 1, .micro_batch = 2},
    {.layout = {.tp = 2, .ep = 2}, .zero_stage = 0, .micro_batch = 1},
    {.layout = {.dp = 4, .ep = 4}, .zero_stage = 1, .micro_batch = 1},
    {.layout = {.dp = 2, .tp = 2, .ep = 4}, .zero_stage = 0, .micro_batch = 2},
    {.layout = {.dp = 8, .ep = 8}, .zero_stage = 1, .micro_batch = 1},
    {.layout = {.dp = 2, .tp = 4, .ep = 4}, .zero_stage = 1, .micro_batch = 2},
    {.layout = {.dp = 2, .tp = 4, .ep = 8}, .zero_stage = 0, .micro_batch = 1}};

struct Collapse {
  const char* name;
  std::vector<std::int64_t> experts;
};

}  // namespace

TEST_CASE("collapsed router: onto one expert, onto one rank, and every expert for every token",
          "[model][layout][ranks]") {
  const Collapse collapse = GENERATE(values<Collapse>({{"the first expert", {0}},
                                                       {"an expert in between", {5}},
                                                       {"the last two experts", {6, 7}},
                                                       {"every expert", {0, 1, 2, 3, 4, 5, 6, 7}}}));
  GridModel model = collapsed_onto(collapse.experts);
  const StepResult want = one_worker(model, 1);
  model.config.moe.reduce_at_expert = GENERATE(false, true);
  model.config.moe.dispatch_chunks = GENERATE(1, 100);  // of 2 to 16 tokens: most chunks are empty
  INFO("onto " << collapse.name << ", reduce_at_expert " << model.config.moe.reduce_at_expert << ", chunks "
               << model.config.moe.dispatch_chunks);
  check_points(model, kLayouts, want);
}

TEST_CASE("collapsed router: with a capacity that holds all tokens", "[model][layout][ranks]") {
  GridModel model = collapsed_onto({5});
  const StepResult want = one_worker(model, 1);
  model.config.moe.capacity_factor = 8;  // as many as there are experts
  model.config.moe.dispatch_chunks = GENERATE(1, 3);
  INFO("chunks " << model.config.moe.dispatch_chunks);
  check_points(model, kLayouts, want);
}

TEST_CASE("collapsed router: with the balance loss over a micro-batch", "[model][layout][ranks]") {
  GridModel model = collapsed_onto({2});
  model.config.moe.balance_loss = 0.3;
  for (const std::int64_t micro_batch : {1, 2}) {
    std::vector<GridPoint> points = kLayouts;
    std::erase_if(points, [&](const GridPoint& point) { return point.micro_batch != micro_batch; });
    check_points(model, points, one_worker(model, micro_batch));
  }
}

TEST_CASE("one token per rank", "[model][layout][ranks]") {
  GridModel model = GENERATE(GridModel{tiny_moe()}, collapsed_onto({4}));
  model.config.seq_len = 4;
  check_points(model,
               {{.layout = {.tp = 4, .ep = 4}, .zero_stage = 1, .micro_batch = 1},
                {.layout = {.dp = 2, .tp = 4, .ep = 8}, .zero_stage = 1, .micro_batch = 1},
                {.layout = {.dp = 2, .tp = 4, .ep = 2}, .zero_stage = 0, .micro_batch = 1}},
               one_worker(model, 1));
}

}  // namespace jevons::test
