// A branch that the product does not know, in every other layer of a model, trained by the ordinary step.
#include "tests/branch/identity_attention.h"

#include <fmt/core.h>

#include "kernels/core/rng.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "trainer/step/train_step.h"

namespace jevons {

AttentionBranch make_attention(ParamStore& store, const ModelConfig& config, std::int64_t layer,
                               const RopeTable& rope) {
  if (layer % 2 == 0) return test::IdentityAttention();
  return Attention(store, config, fmt::format("layers.{}.attn", layer), rope);
}

FfnBranch make_ffn(ParamStore& store, const ModelConfig& config, std::int64_t layer) {
  if (config.is_moe_layer(layer)) return Moe(store, config, layer);
  return DenseFfn(store, config, fmt::format("layers.{}.ffn", layer), config.ffn_hidden_size);
}

namespace test {
namespace {

RunConfig config_with(Recompute recompute) {
  RunConfig config;
  config.model = {.vocab_size = 32,
                  .num_layers = 4,
                  .hidden_size = 32,
                  .ffn_hidden_size = 48,
                  .num_heads = 4,
                  .num_kv_heads = 2,
                  .head_dim = 8,
                  .seq_len = 16,
                  .recompute = recompute,
                  .moe = {}};
  config.model.moe.router = {.num_experts = 4, .top_k = 2};
  config.model.moe.expert_hidden_size = 16;
  config.model.moe.first_dense_layers = 2;
  config.parallel.layout.dp = 1;
  config.train.global_batch_size = 4;
  config.train.micro_batch_size = 2;
  return config;
}

// Every token but the first of a sequence is the one before plus 3.
void fill(HostBatch& batch, std::int64_t seq_len) {
  const RandomStream random(1, "starts");
  for (std::int64_t t = 0; t < batch.sequences * seq_len; ++t) {
    const auto at = static_cast<std::size_t>(t);
    batch.tokens[at] = t % seq_len == 0
                           ? static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(t), 32))
                           : batch.targets[at - 1];
    batch.targets[at] = (batch.tokens[at] + 3) % 32;
  }
}

std::vector<double> train(Recompute recompute) {
  const RunConfig config = config_with(recompute);
  MetaCommunicator world(0, 1);
  Worker worker(config, world, {.device = Device::kCpu}, nullptr);
  for (const Param& param : worker.store().params()) {
    const bool attention = param.spec.name.find(".attn.") != std::string::npos;
    CHECK((!attention || param.spec.name.starts_with("layers.1") || param.spec.name.starts_with("layers.3")));
  }
  HostBatch batch(4, config.model.seq_len, Device::kCpu);
  fill(batch, config.model.seq_len);
  std::vector<double> losses;
  for (std::int64_t step = 1; step <= 20; ++step) {
    losses.push_back(
        train_step(worker, batch, {.global_sequences = 4, .optimizer_step = step, .lr = 0.02}).loss.value());
  }
  return losses;
}

}  // namespace

TEST_CASE("a branch put in beside the others is trained by the ordinary step", "[branch]") {
  const std::vector<double> losses = train(Recompute::kNone);
  CHECK(losses.back() < 0.5 * losses.front());
  CHECK(train(Recompute::kSelective) == losses);
  CHECK(train(Recompute::kFull) == losses);
}

TEST_CASE("an attention without a cache says so when text is asked for", "[branch]") {
  MetaCommunicator world(0, 1);
  Worker worker(config_with(Recompute::kNone), world, {.device = Device::kCpu}, nullptr);
  const auto cache = [&] {
    return worker.stages().all().front().make_cache({.sequences = 1, .positions = 4});
  };
  CHECK_THROWS_WITH(cache(), Catch::Matchers::ContainsSubstring("has no cache"));
}

}  // namespace test
}  // namespace jevons
