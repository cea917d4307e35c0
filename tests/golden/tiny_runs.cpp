#include "tests/golden/tiny_runs.h"

#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <xxhash.h>

#include "kernels/core/error.h"
#include "kernels/core/rng.h"
#include "kernels/gemm.h"
#include "tests/support/ranks.h"
#include "tests/trainer/whole_tensors.h"
#include "trainer/step/evaluate.h"
#include "trainer/step/run_state.h"
#include "trainer/step/train_step.h"

// Of the library's interface; its header is for kernels/cpu.
extern "C" char* openblas_get_corename();
extern "C" char* openblas_get_config();

namespace jevons::test {
namespace {

constexpr std::int64_t kSequences = 8, kSteps = 10;
constexpr double kLearningRate = 0.01;

constexpr const char* kCommon =
    "name: golden\n"
    "threads: 1\n"
    "device: cpu\n"
    "model: {vocab_size: 64, num_layers: 2, hidden_size: 32, ffn_hidden_size: 40, num_heads: 8, "
    "num_kv_heads: 4, head_dim: 8, seq_len: 16, init_std: 0.1}\n"
    "train: {global_batch_size: 8, steps: 10}\n";

RunConfig config_of(const TinyRun& run, const Layout& layout, const std::vector<std::string>& more) {
  std::vector<std::string> options = run.options;
  options.push_back(fmt::format("parallel.dp={}", layout.dp));
  options.push_back(fmt::format("parallel.tp={}", layout.tp));
  options.push_back(fmt::format("parallel.ep={}", layout.ep));
  options.push_back(fmt::format("parallel.pp={}", layout.pp));
  options.push_back(fmt::format("parallel.cp={}", layout.cp));
  options.insert(options.end(), more.begin(), more.end());
  RunConfig config = parse_run_config(kCommon, "golden.yaml", options, {.world = layout.world()});
  return config;
}

// Sequences [first, first + batch.sequences) of an endless stream: a token mostly decides the next one, and a
// document ends here and there.
void fill_batch(const RunConfig& config, std::int64_t first, HostBatch& batch) {
  const std::int64_t length = config.model.seq_len, vocab = config.model.vocab_size;
  const RandomStream random(23, "golden");
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    const auto draw = [&](std::int64_t t, std::int64_t below) {
      const auto at = static_cast<std::uint64_t>(2 * ((first + s) * length + t) + (below == vocab ? 0 : 1));
      return static_cast<std::int64_t>(random.below(at, static_cast<std::uint64_t>(below)));
    };
    std::int64_t id = draw(0, vocab), document = 0;
    for (std::int64_t t = 0; t < length; ++t) {
      const auto i = static_cast<std::size_t>(s * length + t);
      const std::int64_t dice = draw(t, 16);
      const bool ends = dice == 0;
      const std::int64_t next = dice < 3 ? draw(t + 1, vocab) : (id * 5 + 3) % vocab;
      batch.tokens[i] = static_cast<std::int32_t>(id);
      batch.targets[i] = ends ? -1 : static_cast<std::int32_t>(next);
      batch.doc_start[i] = static_cast<std::int32_t>(document);
      if (ends) document = t + 1;
      id = next;
    }
  }
}

StepOutcome make_step(Worker& worker, HostBatch& batch, std::int64_t step) {
  fill_batch(worker.config(), step * kSequences + worker.dp_rank() * batch.sequences, batch);
  StepOutcome outcome = train_step(
      worker, batch, {.global_sequences = kSequences, .optimizer_step = step + 1, .lr = kLearningRate});
  ENSURE(!outcome.skipped, "step {} was skipped", step + 1);
  return outcome;
}

double validate(Worker& worker) {
  const TrainConfig& train = worker.config().train;
  const std::int64_t ranks = worker.dp_size(), rounds = kSequences / (train.micro_batch_size * ranks);
  const Evaluation found = evaluate(worker, rounds, [&](std::int64_t round, HostBatch& part) {
    fill_batch(worker.config(), 1000 + (round * ranks + worker.dp_rank()) * part.sequences, part);
  });
  return found.loss.value();
}

struct RankResult {
  std::vector<double> losses;
  double grad_norm = 0, validation = 0;
  std::vector<Piece> gradients, state;
  auto fields() { return std::tie(losses, grad_norm, validation, gradients, state); }
};

// Without clipping and with beta1 = 0 the first moment after a step is the gradient that the step had.
void take_gradients(RunConfig config, Communicator& world, RankResult& mine) {
  config.optim.kind = OptimizerKind::kAdamW;
  config.optim.moments = MomentKind::kF32;
  config.optim.beta1 = 0;
  config.optim.clip_norm = 0;
  Worker worker(config, world, {}, nullptr);
  HostBatch batch(kSequences / worker.dp_size(), config.model.seq_len, Device::kCpu);
  mine.grad_norm = make_step(worker, batch, 0).grad_norm;
  std::vector<TensorBox> boxes = boxes_to_save(worker);
  std::erase_if(boxes, [](const TensorBox& box) { return !box.name.starts_with("optim.m."); });
  mine.gradients = pieces_of(boxes);
}

RankResult train_on(const RunConfig& config, Communicator& world) {
  RankResult mine;
  take_gradients(config, world, mine);
  Worker worker(config, world, {}, nullptr);
  HostBatch batch(kSequences / worker.dp_size(), config.model.seq_len, Device::kCpu);
  for (std::int64_t step = 0; step < kSteps; ++step) {
    mine.losses.push_back(make_step(worker, batch, step).loss.value());
  }
  mine.validation = validate(worker);
  mine.state = pieces_of(boxes_to_save(worker));
  return mine;
}

class Hash {
 public:
  void add(const std::vector<float>& values) {
    value_ = XXH3_64bits_withSeed(values.data(), values.size() * sizeof(float), value_);
  }
  std::string text() const { return fmt::format("{:016x}", value_); }

 private:
  std::uint64_t value_ = 0;
};

// "optim.m.layers.1.moe.experts.7.up": "layers.1.moe.experts.*.up"
std::string gradient_name(const std::string& moment) {
  std::string name = moment.substr(std::string("optim.m.").size());
  const std::string experts = ".experts.";
  const std::size_t at = name.find(experts);
  if (at == std::string::npos) return name;
  const std::size_t begin = at + experts.size();
  return name.replace(begin, name.find('.', begin) - begin, "*");
}

// Latent attention for the heads of kCommon.
std::vector<std::string> with_latents(std::vector<std::string> options) {
  options.insert(options.begin(),
                 {"model.num_kv_heads=0", "model.head_dim=0", "model.mla.kv_lora_rank=12",
                  "model.mla.qk_nope_head_dim=6", "model.mla.qk_rope_head_dim=4", "model.mla.v_head_dim=8"});
  return options;
}

}  // namespace

std::vector<TinyRun> tiny_runs(const std::string& family) {
  if (family == "dense") {
    return {{"tied",
             {"model.tie_embeddings=true", "model.qk_norm=head", "data.document_mask=true",
              "train.micro_batch_size=2"},
             {{}, {.dp = 2}, {.tp = 2}, {.dp = 4}, {.dp = 2, .tp = 2}}},
            {"untied", {"model.recompute=full"}, {{}, {.dp = 2}, {.tp = 2}, {.tp = 4}}},
            {"hidden-norm",
             {"model.qk_norm=hidden", "model.recompute=selective", "parallel.zero_stage=0"},
             {{}, {.dp = 2}, {.dp = 4}}},
            {"mtp",
             {"model.mtp.depth=2", "model.recompute=selective", "data.document_mask=true",
              "train.micro_batch_size=2"},
             {{}, {.dp = 2}, {.tp = 2}, {.dp = 2, .tp = 2}}},
            {"latent",
             with_latents({"model.rope.scaling=llama3", "model.rope.factor=4",
                           "model.rope.original_seq_len=8", "model.recompute=selective"}),
             {{}, {.dp = 2}, {.tp = 2}, {.dp = 2, .tp = 2}}}};
  }
  ENSURE(family == "moe", "no family {}", family);
  const auto with_experts = [](std::vector<std::string> options) {
    options.insert(options.begin(),
                   {"model.moe.num_experts=8", "model.moe.top_k=2", "model.moe.expert_hidden_size=24"});
    return options;
  };
  return {
      {"softmax",
       with_experts({"model.moe.router.renormalize=true", "model.moe.router.scaling_factor=1.5",
                     "model.moe.balance_loss=0.02", "model.moe.z_loss=0.01", "model.moe.capacity_factor=1.25",
                     "train.micro_batch_size=2", "data.document_mask=true"}),
       {{}, {.dp = 2}, {.dp = 2, .ep = 2}, {.tp = 2}, {.tp = 2, .ep = 2}, {.dp = 2, .tp = 2, .ep = 2}}},
      {"sigmoid",
       with_experts({"model.num_layers=3", "model.moe.top_k=3", "model.moe.router.score=sigmoid",
                     "model.moe.router.selection_bias=true", "model.moe.router.bias_update_rate=0.02",
                     "model.moe.router.groups=4", "model.moe.router.groups_kept=2",
                     "model.moe.num_shared_experts=1", "model.moe.first_dense_layers=1",
                     "model.moe.sequence_balance_loss=0.02", "model.moe.dispatch_chunks=2",
                     "model.recompute=selective", "model.tie_embeddings=true", "train.micro_batch_size=2"}),
       {{}, {.dp = 2, .ep = 2}, {.tp = 2, .ep = 2}, {.dp = 4, .ep = 2}, {.dp = 2, .tp = 2, .ep = 4}}},
      {"at-expert",
       with_experts({"model.moe.router.renormalize=false", "model.moe.router.top_k_before_score=true",
                     "model.moe.router.groups=2", "model.moe.router.group_score=max",
                     "model.moe.global_balance_loss=0.02", "model.moe.reduce_at_expert=true",
                     "model.recompute=full", "model.qk_norm=head", "parallel.zero_stage=0"}),
       {{}, {.dp = 2, .ep = 2}, {.tp = 2, .ep = 2}, {.dp = 4, .ep = 4}}},
      {"latent",
       with_latents(with_experts(
           {"model.mla.q_lora_rank=20", "model.rope.layout=interleaved", "model.rope.scaling=yarn",
            "model.rope.factor=4", "model.rope.original_seq_len=8", "model.rope.mscale=1",
            "model.rope.mscale_all_dim=0.8", "model.recompute=selective", "model.moe.num_shared_experts=1",
            "model.moe.first_dense_layers=1", "train.micro_batch_size=2", "data.document_mask=true"})),
       {{}, {.dp = 2, .ep = 2}, {.tp = 2}, {.tp = 2, .ep = 2}}},
      {"layout-invariant",
       with_experts({"numerics=layout_invariant", "model.moe.sequence_balance_loss=0.02",
                     "model.moe.num_shared_experts=2", "data.document_mask=true"}),
       {{}, {.dp = 2, .ep = 2}, {.dp = 4, .ep = 2}}},
      {"sqrt-softplus",
       with_experts({"model.moe.router.score=sqrt_softplus", "model.moe.router.scaling_factor=1.5",
                     "model.moe.router.selection_bias=true", "model.moe.router.bias_update_rate=0.02",
                     "model.swiglu_limit=0.3", "model.moe.num_shared_experts=1",
                     "model.moe.sequence_balance_loss=0.02", "model.recompute=selective"}),
       {{}, {.dp = 2, .ep = 2}, {.tp = 2, .ep = 2}}},
      {"quantile",
       with_experts({"model.moe.top_k=3", "model.moe.router.score=sigmoid",
                     "model.moe.router.selection_bias=true", "model.moe.router.bias_rule=quantile"}),
       {{}, {.dp = 2, .ep = 2}, {.tp = 2, .ep = 2}}},
      {"mtp",
       with_experts({"model.mtp.depth=1", "model.moe.router.score=sigmoid",
                     "model.moe.router.selection_bias=true", "model.moe.router.bias_update_rate=0.02",
                     "model.moe.sequence_balance_loss=0.02", "model.moe.first_dense_layers=1",
                     "model.recompute=full", "model.tie_embeddings=true"}),
       {{}, {.dp = 2, .ep = 2}, {.tp = 2, .ep = 2}, {.dp = 2, .tp = 2, .ep = 4}}},
      {"muon",
       with_latents(with_experts({"optimizer.kind=muon", "optimizer.qk_clip=1.5", "model.mla.q_lora_rank=20",
                                  "model.moe.first_dense_layers=1", "train.micro_batch_size=2"})),
       {{}, {.dp = 2, .ep = 2}, {.dp = 2, .tp = 2, .ep = 2}}},
      {"bf16-moments", with_experts({"optimizer.moments=bf16_stochastic"}), {{}, {.dp = 2, .ep = 2}}}};
}

std::string short_name(const Layout& layout) {
  std::string name;
  const auto add = [&](const char* axis, int size) {
    if (size > 1) name += fmt::format("{}{}{}", name.empty() ? "" : ",", axis, size);
  };
  add("dp", layout.dp), add("tp", layout.tp), add("ep", layout.ep);
  return name.empty() ? "1" : name;
}

Numbers numbers_of(const TinyRun& run, const Layout& layout, const std::vector<std::string>& more) {
  const RunConfig config = config_of(run, layout, more);
  const auto ranks = run_ranks(layout.world(), [&](Communicator& world) { return train_on(config, world); });
  WholeTensors gradients, state;
  for (const RankResult& rank : ranks) place(rank.gradients, gradients), place(rank.state, state);
  Numbers numbers{ranks[0].losses, ranks[0].grad_norm, ranks[0].validation, {}, {}};
  std::map<std::string, Hash> hashes;
  for (const auto& [name, values] : gradients) hashes[gradient_name(name)].add(values);
  for (const auto& [name, hash] : hashes) numbers.gradients[name] = hash.text();
  Hash all;
  for (const auto& entry : state) all.add(entry.second);
  numbers.state = all.text();
  return numbers;
}

std::string engine_key(Precision precision) {
  std::string key = fmt::format("f32 {}", gemm_backend(DType::kF32).name);
  if (precision == Precision::kBF16) key += fmt::format(", bf16 {}", gemm_backend(DType::kBF16).name);
  // A library's bits depend on which of its kernels it takes, the portable attention's on the C library.
  if (key.find("openblas") != std::string::npos) {
    const std::string config = openblas_get_config();
    key += fmt::format(", {} {}, glibc {}", config.substr(0, config.find(' ', 9)), openblas_get_corename(),
                       gnu_get_libc_version());
  }
#ifdef __FMA__
  key += ", fma";
#endif
  return key + ", " JEVONS_COMPILED_BY;
}

}  // namespace jevons::test
