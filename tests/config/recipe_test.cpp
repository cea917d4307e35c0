// What parts of a recipe cannot be together: multi-token prediction, balance of the router, stages.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/config/refusal.h"

namespace jevons {

using test::refusal;
using test::refusal_of;

TEST_CASE("config: what multi-token prediction, quantile balancing and stages cannot be", "[config]") {
  using Catch::Matchers::ContainsSubstring;
  CHECK_THAT(refusal(test::kSample, {"model.seq_len=4", "model.mtp.depth=4"}),
             ContainsSubstring("model.mtp.depth = 4 leaves no target in a sequence of model.seq_len = 4"));
  const auto quantile = [](std::vector<std::string> more) {
    more.insert(more.begin(),
                {"model.moe.router.bias_rule=quantile", "model.moe.router.selection_bias=true"});
    return refusal(test::kSample, more);
  };
  CHECK(quantile({}) == "accepted");
  CHECK_THAT(refusal_of("model.moe.router.bias_rule=quantile"),
             ContainsSubstring("needs selection_bias = true"));
  CHECK_THAT(quantile({"model.moe.router.score=sqrt_softplus"}), ContainsSubstring("softmax or sigmoid"));
  CHECK_THAT(quantile({"model.moe.router.top_k_before_score=true"}),
             ContainsSubstring("top_k_before_score = false"));
  CHECK_THAT(quantile({"model.moe.router.groups=2"}), ContainsSubstring("knows no groups"));
  CHECK_THAT(quantile({"model.moe.top_k=8"}), ContainsSubstring("needs fewer experts chosen than there are"));
  CHECK_THAT(
      refusal(test::kSample, {"model.moe.router.forced_balance=true", "numerics=layout_invariant"}),
      ContainsSubstring("numerics = layout_invariant cannot be had with model.moe.router.forced_balance"));

  const auto stages = [](const std::string& list) {
    return refusal_of("schedule={kind: stages, stages: " + list + "}");
  };
  CHECK(stages("[{until_steps: 5}, {shape: linear, ratio: 0}]") == "accepted");
  CHECK_THAT(stages("[]"), ContainsSubstring("belong together"));
  CHECK_THAT(refusal_of("schedule.stages=[{until_steps: 5}]"), ContainsSubstring("belong together"));
  CHECK_THAT(stages("[{}, {}]"),
             ContainsSubstring("schedule.stages.0 needs one of until_steps and until_tokens"));
  CHECK_THAT(stages("[{until_steps: 5, until_tokens: 5}]"), ContainsSubstring("or neither"));
  CHECK_THAT(refusal_of("schedule={kind: stages, warmup_steps: 3, stages: [{}]}"),
             ContainsSubstring("is a stage"));
  // Stages of steps and of tokens, in a file: where the one stands that comes too early.
  const auto ordered = [](const std::string& stages_lines, std::vector<std::string> overrides = {}) {
    return refusal(std::string(test::kSample) + "schedule:\n  kind: stages\n  stages:\n" + stages_lines,
                   overrides);
  };
  const std::string early =
      "    - {until_steps: 100}\n    - {shape: cosine, ratio: 0.1, until_tokens: 1000}\n    - {}\n";
  const auto line = [](const std::string& text) { return std::count(text.begin(), text.end(), '\n'); };
  CHECK_THAT(ordered(early),
             ContainsSubstring(fmt::format("run.yaml:{}:7: schedule.stages.1 ends at 1000 trained tokens, "
                                           "where the stage before it has ended at",
                                           line(test::kSample) + 5)));
  CHECK(ordered("    - {until_steps: 1}\n    - {until_tokens: 100000}\n    - {}\n") == "accepted");
  CHECK_THAT(ordered("    - {until_steps: 1}\n    - {until_tokens: 100000}\n    - {}\n",
                     {"train.global_batch_size=100000"}),
             ContainsSubstring("schedule.stages.1 ends at 100000 trained tokens"));
  CHECK_THAT(ordered("    - {until_steps: 1000000000000000}\n", {"train.global_batch_size=100000"}),
             ContainsSubstring("steps train more than 1e+18 tokens"));
  const auto changes = [](const std::string& list) { return refusal_of("schedule.changes=" + list); };
  CHECK(changes("[{from_tokens: 5, mtp_loss_weight: 0}]") == "accepted");
  CHECK_THAT(changes("[{from_tokens: 5}]"), ContainsSubstring("schedule.changes.0 changes nothing"));
  CHECK_THAT(changes("[{from_tokens: 5, mtp_loss_weight: 1}, {from_tokens: 5, bias_update_rate: 0}]"),
             ContainsSubstring("schedule.changes.1.from_tokens = 5 is not above"));
}

}  // namespace jevons
