#include "trainer/config/parallel_section.h"

#include <fmt/ranges.h>

#include <charconv>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "kernels/core/error.h"
#include "trainer/config/section.h"

namespace jevons {
namespace {

const std::string kDp = "parallel.dp", kTp = "parallel.tp", kEp = "parallel.ep", kPp = "parallel.pp",
                  kCp = "parallel.cp", kSchedule = "parallel.schedule",
                  kVirtualStages = "parallel.virtual_stages", kPairs = "parallel.pairs",
                  kStageLayers = "parallel.stage_layers", kScheduleFile = "parallel.schedule_file";

constexpr Choice<PipelineKind> kSchedules[] = {{PipelineKind::k1F1B, "1f1b"},
                                               {PipelineKind::kInterleaved, "interleaved"},
                                               {PipelineKind::kZbH1, "zb_h1"},
                                               {PipelineKind::kZbV, "zb_v"},
                                               {PipelineKind::kDualPipeV, "dualpipe_v"}};

// "8 8 7": layers of each stage; nothing if it is no such list.
std::optional<std::vector<std::int64_t>> read_layers(const std::string& text) {
  std::vector<std::int64_t> layers;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    std::int64_t count = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), count);
    if (error != std::errc() || end != word.data() + word.size() || count < 1) return std::nullopt;
    layers.push_back(count);
  }
  return layers;
}

std::string write_layers(const std::vector<std::int64_t>& layers) {
  return fmt::format("{}", fmt::join(layers, " "));
}

// Workers that parallel.dp leaves to the other axes of the dense mesh.
std::int64_t other_axes(const Layout& layout) {
  return std::int64_t{layout.tp} * layout.pp * layout.cp;
}

// "1, 2, 4": what divides `number`.
std::string divisors(std::int64_t number) {
  std::set<std::int64_t> found;
  for (std::int64_t d = 1; d * d <= number; ++d) {
    if (number % d == 0) found.insert({d, number / d});
  }
  return fmt::format("{}", fmt::join(found, ", "));
}

std::string world_advice(const Layout& layout, int world) {
  std::string advice;
  const std::int64_t others = other_axes(layout), not_tp = std::int64_t{layout.dp} * layout.pp * layout.cp;
  if (world % others == 0) advice = fmt::format("dp {}", world / others);
  if (world % not_tp == 0) {
    advice += fmt::format("{}tp {}", advice.empty() ? "" : " or ", world / not_tp);
  }
  const std::int64_t needed = layout.dp * other_axes(layout);
  return advice.empty() ? fmt::format("start {} workers", needed)
                        : fmt::format("{} would fit, or start {} workers", advice, needed);
}

// "pp*dp*tp = 2*4*1": pp and cp where they are not 1.
std::string product_of(const Layout& layout) {
  std::vector<std::string> names{"dp"}, sizes{fmt::to_string(layout.dp)};
  const auto add = [&](const char* name, int size) {
    names.emplace_back(name), sizes.push_back(fmt::to_string(size));
  };
  if (layout.cp != 1) add("cp", layout.cp);
  add("tp", layout.tp);
  const std::string stages = layout.pp == 1 ? "" : "pp*",
                    count = layout.pp == 1 ? "" : fmt::format("{}*", layout.pp);
  return fmt::format("{}{} = {}{}", stages, fmt::join(names, "*"), count, fmt::join(sizes, "*"));
}

void check_world(const Layout& layout, int world, Rules& rules) {
  const char* plural = world == 1 ? "" : "s";
  if (layout.dp == 0) {
    rules.require(
        {kTp, kPp, kCp}, [] { return false; }, "parallel: tp*pp*cp = {} does not divide the {} worker{}",
        other_axes(layout), world, plural);
    return;
  }
  const std::int64_t needed = layout.dp * other_axes(layout);
  rules.require(
      {kDp, kTp, kPp, kCp}, [&] { return needed == world; }, "parallel: {} = {} but {} worker{} started; {}",
      product_of(layout), needed, world, world == 1 ? " was" : "s were", world_advice(layout, world));
}

void check_experts(const Layout& layout, std::int64_t num_experts, Rules& rules) {
  const std::int64_t ranks = std::int64_t{layout.dp} * layout.cp * layout.tp;  // 0: not known yet
  const std::string fitting = divisors(std::gcd(ranks, num_experts));
  rules.require(
      {kEp, kDp, kTp, kCp}, [&] { return ranks % layout.ep == 0; },
      "parallel.ep: {} does not divide dp*{}tp = {}; ep {} would fit", layout.ep, layout.cp == 1 ? "" : "cp*",
      ranks, fitting);
  rules.require(
      {kEp, "model.moe.num_experts"}, [&] { return num_experts % layout.ep == 0; },
      "parallel.ep: {} does not divide model.moe.num_experts = {}; ep {} would fit", layout.ep, num_experts,
      fitting);
}

// Every rank has as many rows of each sequence, which tp splits once more.
void check_context_parallel(const Layout& layout, const ModelConfig& model, Rules& rules) {
  const std::int64_t parts = std::int64_t{layout.cp} * layout.tp;
  rules.require(
      {kCp, kTp, "model.seq_len"}, [&] { return layout.cp == 1 || model.seq_len % parts == 0; },
      "parallel: cp*tp = {}*{} does not divide model.seq_len = {}; cp {} would fit", layout.cp, layout.tp,
      model.seq_len, divisors(model.seq_len % layout.tp == 0 ? model.seq_len / layout.tp : model.seq_len));
}

void check_tensor_parallel(const Layout& layout, const ModelConfig& model, Rules& rules) {
  const MoeConfig& moe = model.moe;
  const std::pair<std::string, std::int64_t> split[] = {
      {"num_heads", model.num_heads},
      {"num_kv_heads", model.num_kv_heads},
      {"ffn_hidden_size", model.ffn_hidden_size},
      {"moe.num_shared_experts * expert_hidden_size", moe.num_shared_experts * moe.expert_hidden_size},
      {"vocab_size", model.vocab_size},
      {"seq_len", model.seq_len}};
  std::int64_t all = 0;
  for (const auto& [name, size] : split) all = std::gcd(all, size);
  for (const auto& [name, size] : split) {
    rules.require(
        {kTp, "model." + name.substr(0, name.find(' '))},
        [size = size, &layout] { return size % layout.tp == 0; },
        "parallel.tp: {} does not divide model.{} = {}; tp {} would fit", layout.tp, name, size,
        divisors(all));
  }
  rules.require(
      {kTp, "model.qk_norm"}, [&] { return layout.tp == 1 || model.qk_norm != QkNorm::kHidden; },
      "parallel.tp: {} cannot be used with model.qk_norm = hidden; tp 1 would fit", layout.tp);
}

void check_pipeline(const ParallelConfig& parallel, const ModelConfig& model, Rules& rules) {
  const PipelineConfig& pipeline = parallel.pipeline;
  const int pp = parallel.layout.pp, each = pipeline.of_each_rank(pp);
  const std::int64_t stages = std::int64_t{pp} * each, layers = model.num_layers;
  const auto needs_pipeline = [&](const std::string& key, bool given) {
    rules.require(
        {key, kPp}, [&] { return !given || pp > 1; }, "{} needs a pipeline: give parallel.pp", key);
  };
  needs_pipeline(kVirtualStages, pipeline.virtual_stages > 1);
  needs_pipeline(kPairs, pipeline.pairs);
  needs_pipeline(kScheduleFile, !pipeline.file.empty());
  needs_pipeline(kStageLayers, !pipeline.stage_layers.empty());
  rules.require(
      {kPp, kVirtualStages, "model.num_layers"}, [&] { return stages <= layers; },
      "parallel.pp * virtual_stages = {} * {} stages need as many layers; model.num_layers is {}", pp, each,
      layers);
  const std::vector<std::int64_t>& list = pipeline.stage_layers;
  const std::int64_t listed = std::accumulate(list.begin(), list.end(), std::int64_t{0});
  rules.require(
      {kStageLayers, kPp, kVirtualStages}, [&] { return list.empty() || std::ssize(list) == stages; },
      "parallel.stage_layers has {} stages, parallel.pp * virtual_stages = {} * {}", list.size(), pp, each);
  rules.require(
      {kStageLayers, "model.num_layers"}, [&] { return list.empty() || listed == layers; },
      "parallel.stage_layers has {} layers, model.num_layers is {}", listed, layers);
}

}  // namespace

void check_schedule(const ParallelConfig& parallel, std::int64_t micro_batches, const std::string& key,
                    Rules& rules) {
  const int pp = parallel.layout.pp;
  if (pp == 1 || !parallel.pipeline.file.empty()) return;
  std::string misfit;
  try {
    generate_schedule(parallel.pipeline.options(pp, micro_batches));
  } catch (const Error& error) {
    misfit = error.what();
  }
  rules.require(
      {kSchedule, kPp, kVirtualStages, kPairs, key}, [&] { return misfit.empty(); },
      "parallel.schedule: {}; a step has {} / (train.micro_batch_size * parallel.dp) = {} micro-batches",
      misfit, key, micro_batches);
}

void carry(Bridge b, ParallelConfig& parallel) {
  b("dp", parallel.layout.dp);
  b("tp", parallel.layout.tp);
  b("ep", parallel.layout.ep);
  b("pp", parallel.layout.pp);
  b("cp", parallel.layout.cp);
  b("zero_stage", parallel.zero_stage);
  b("bucket_mib", parallel.bucket_mib);
  PipelineConfig& pipeline = parallel.pipeline;
  b("schedule", pipeline.schedule, kSchedules);
  b("virtual_stages", pipeline.virtual_stages);
  b("pairs", pipeline.pairs);
  b("schedule_file", pipeline.file);
  b.text("stage_layers", pipeline.stage_layers, read_layers, write_layers,
         ": give the layers of every stage, with spaces between them, such as \"8 8 8 6\"");
}

int PipelineConfig::of_each_rank(int ranks) const {
  if (virtual_stages > 0 || ranks == 1) return std::max(virtual_stages, 1);
  return virtual_stages_of(schedule).value_or(2);
}

PipelineOptions PipelineConfig::options(int ranks, std::int64_t micro_batches) const {
  return {.kind = schedule,
          .ranks = ranks,
          .micro_batches = micro_batches,
          .virtual_stages = of_each_rank(ranks),
          .overlap = pairs ? PipelineOverlap::kPairs : PipelineOverlap::kNone};
}

void resolve_defaults(ParallelConfig& parallel, int world) {
  Layout& layout = parallel.layout;
  if (layout.dp == 0 && world % other_axes(layout) == 0) {
    layout.dp = static_cast<int>(world / other_axes(layout));
  }
}

void check(const ParallelConfig& parallel, const ModelConfig& model, std::optional<int> world, Rules& rules) {
  const Layout& layout = parallel.layout;
  check_pipeline(parallel, model, rules);
  check_context_parallel(layout, model, rules);
  if (world) check_world(layout, *world, rules);
  check_experts(layout, model.moe.router.num_experts, rules);
  check_tensor_parallel(layout, model, rules);
}

}  // namespace jevons
