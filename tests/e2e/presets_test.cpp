// The DeepSeek family's presets, dry, at the layouts that they were trained on as far as the program has the
// axes: the workers of one pipeline stage there hold all layers here.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "trainer/config/run_config.h"
#include "trainer/model/model_counts.h"
#include "trainer/step/dry_run.h"
#include "trainer/step/pipeline_plan.h"

namespace jevons {
namespace {

struct Published {
  std::string name;
  int world;  // workers of a stage
  std::string ep;
};

RunConfig config_of(const Published& preset, std::vector<std::string> options) {
  // Muon's products are no part of the model's.
  options.insert(options.end(),
                 {"device=cpu", "optimizer.kind=adamw", "parallel.ep=" + preset.ep, "parallel.zero_stage=1",
                  "train.global_batch_size=" + std::to_string(preset.world)});
  return load_run_config(JEVONS_SOURCE_DIR "/configs/presets/" + preset.name + ".yaml", options,
                         {.world = preset.world});
}

double products(const DryRun& run) {
  const WorkMeter& work = run.work.totals();
  return work[WorkKind::kGemm].flops + work[WorkKind::kGroupedGemm].flops;
}

// Weights that selective recompute multiplies again: those that make queries, keys and values of latents.
double up_projections(const ModelConfig& m) {
  const double heads = static_cast<double>(m.num_heads * m.num_layers),
               rank = static_cast<double>(m.mla.q_lora_rank);
  return heads * (rank * static_cast<double>(m.head_dim) +
                  static_cast<double>(m.mla.kv_lora_rank * (m.mla.qk_nope_head_dim + m.mla.v_head_dim)));
}

}  // namespace

TEST_CASE("presets of the DeepSeek family run dry at their published layouts", "[presets]") {
  // Their ep; Moonlight's is not published.
  for (const Published& preset : {Published{"deepseek-v3", 128, "64"}, Published{"deepseek-v2", 8, "8"},
                                  Published{"deepseek-v2-lite", 8, "8"}, Published{"kimi-k2", 16, "16"},
                                  Published{"moonlight-16b-a3b", 8, "8"}}) {
    INFO(preset.name);
    const RunConfig config = config_of(preset, {});
    const ModelConfig& m = config.model;
    const DryRun run = dry_run(config, preset.world);
    const auto length = static_cast<double>(m.seq_len);              // the tokens of a worker's step
    const double head = static_cast<double>(m.vocab_size) * length;  // logits, in bf16
    const bool in_chunks = 2 * head > static_cast<double>(m.max_logit_bytes);  // made twice
    const double logits_again = in_chunks ? 2 * head * static_cast<double>(m.hidden_size) : 0;
    CHECK(products(run) ==
          Approx(6 * static_cast<double>(count_model(m).matmul) * length + logits_again).epsilon(1e-12));
    const double pairs = length * (length + 1) / 2, heads = static_cast<double>(m.num_heads * m.num_layers);
    const auto qk = static_cast<double>(m.head_dim), v = static_cast<double>(m.v_head_dim());
    CHECK(run.work.totals()[WorkKind::kAttention].flops ==
          Approx(2 * pairs * heads * (qk + v + 3 * qk + 2 * v)).epsilon(1e-12));

    const DryRun again = dry_run(config_of(preset, {"model.recompute=selective"}), preset.world);
    CHECK(products(again) - products(run) == Approx(2 * up_projections(m) * length).epsilon(1e-9));
    CHECK(again.memory.stash < run.memory.stash);
    CHECK(again.memory.weights_and_grads == run.memory.weights_and_grads);
  }
}

// DeepSeek-V3 (arXiv:2412.19437, section 4.3): 32,768 tokens with batches of 1920 sequences, then 131,072
// with 480, here in parts on GPUs of 80 GiB.
TEST_CASE("DeepSeek-V3 runs dry at the lengths of its extension stages", "[presets]") {
  struct Extension {
    std::int64_t length, batch, cp;
  };
  for (const auto& [length, batch, cp] : {Extension{32768, 1920, 8}, Extension{131072, 480, 32}}) {
    INFO(length);
    const std::vector<std::string> options = {"device=cuda",
                                              "parallel.pp=16",
                                              "parallel.ep=64",
                                              "model.recompute=full",
                                              "train.micro_batch_size=1",
                                              fmt::format("model.seq_len={}", length),
                                              fmt::format("train.global_batch_size={}", batch),
                                              fmt::format("parallel.cp={}", cp)};
    const RunConfig config =
        load_run_config(JEVONS_SOURCE_DIR "/configs/presets/deepseek-v3.yaml", options, {.world = 2048});
    CHECK(config.parallel.layout.dp == 128 / cp);
    const DryRun run = dry_run(config, 2048, 1);
    CHECK(run.memory.total() < std::size_t{80} << 30);
    // Four products forward (twice) and backward of this rank's queries, which have their share of all pairs.
    const ModelConfig& m = config.model;
    const auto n = static_cast<double>(length), share = 1 / static_cast<double>(cp);
    const auto passes = static_cast<double>(batch) / static_cast<double>(config.parallel.layout.dp),
               layers = static_cast<double>(PipelinePlan(config, 1).ranges()[0].end_layer -
                                            PipelinePlan(config, 1).ranges()[0].first_layer),
               qk = static_cast<double>(m.head_dim), v = static_cast<double>(m.v_head_dim());
    const double whole = 2 * n * (n + 1) / 2 * static_cast<double>(m.num_heads) * layers * passes *
                         (2 * (qk + v) + 3 * qk + 2 * v);
    CHECK(run.work.totals()[WorkKind::kAttention].flops == Approx(whole * share).epsilon(0.05));
  }
}

}  // namespace jevons
