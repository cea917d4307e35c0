#include "trainer/config/parallel_section.h"

#include <fmt/ranges.h>

#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "trainer/config/section.h"

namespace jevons {
namespace {

const std::string kDp = "parallel.dp", kTp = "parallel.tp", kEp = "parallel.ep", kPp = "parallel.pp",
                  kCp = "parallel.cp";

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
  if (world % layout.tp == 0) advice = fmt::format("dp {}", world / layout.tp);
  if (world % layout.dp == 0) {
    advice += fmt::format("{}tp {}", advice.empty() ? "" : " or ", world / layout.dp);
  }
  const std::int64_t needed = layout.dp * other_axes(layout);
  return advice.empty() ? fmt::format("start {} workers", needed)
                        : fmt::format("{} would fit, or start {} workers", advice, needed);
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
      {kDp, kTp, kPp, kCp}, [&] { return needed == world; },
      "parallel: dp*tp = {}*{} = {} but {} worker{} started; {}", layout.dp, layout.tp, needed, world,
      world == 1 ? " was" : "s were", world_advice(layout, world));
}

void check_experts(const Layout& layout, std::int64_t num_experts, Rules& rules) {
  const std::int64_t ranks = std::int64_t{layout.dp} * layout.cp * layout.tp;  // 0: not known yet
  const std::string fitting = divisors(std::gcd(ranks, num_experts));
  rules.require(
      {kEp, kDp, kTp, kCp}, [&] { return ranks % layout.ep == 0; },
      "parallel.ep: {} does not divide dp*tp = {}; ep {} would fit", layout.ep, ranks, fitting);
  rules.require(
      {kEp, "model.moe.num_experts"}, [&] { return num_experts % layout.ep == 0; },
      "parallel.ep: {} does not divide model.moe.num_experts = {}; ep {} would fit", layout.ep, num_experts,
      fitting);
}

void check_tensor_parallel(const Layout& layout, const ModelConfig& model, Rules& rules) {
  const std::pair<const char*, std::int64_t> split[] = {{"num_heads", model.num_heads},
                                                        {"num_kv_heads", model.num_kv_heads},
                                                        {"ffn_hidden_size", model.ffn_hidden_size},
                                                        {"vocab_size", model.vocab_size},
                                                        {"seq_len", model.seq_len}};
  std::int64_t all = 0;
  for (const auto& [name, size] : split) all = std::gcd(all, size);
  for (const auto& [name, size] : split) {
    rules.require(
        {kTp, std::string("model.") + name}, [size = size, &layout] { return size % layout.tp == 0; },
        "parallel.tp: {} does not divide model.{} = {}; tp {} would fit", layout.tp, name, size,
        divisors(all));
  }
  rules.require(
      {kTp, "model.qk_norm"}, [&] { return layout.tp == 1 || model.qk_norm != QkNorm::kHidden; },
      "parallel.tp: {} cannot be used with model.qk_norm = hidden; tp 1 would fit", layout.tp);
}

}  // namespace

void carry(Bridge b, ParallelConfig& parallel) {
  b("dp", parallel.layout.dp);
  b("tp", parallel.layout.tp);
  b("ep", parallel.layout.ep);
  b("pp", parallel.layout.pp);
  b("cp", parallel.layout.cp);
  b("zero_stage", parallel.zero_stage);
  b("bucket_mib", parallel.bucket_mib);
}

void resolve_defaults(ParallelConfig& parallel, int world) {
  Layout& layout = parallel.layout;
  if (layout.dp == 0 && world % other_axes(layout) == 0) {
    layout.dp = static_cast<int>(world / other_axes(layout));
  }
}

void check(const ParallelConfig& parallel, const ModelConfig& model, std::optional<int> world, Rules& rules) {
  const Layout& layout = parallel.layout;
  rules.require(
      {kPp}, [&] { return layout.pp == 1; },
      "parallel.pp: pipeline parallelism is not in this version; use pp 1");
  rules.require(
      {kCp}, [&] { return layout.cp == 1; },
      "parallel.cp: context parallelism is not in this version; use cp 1");
  if (world) check_world(layout, *world, rules);
  check_experts(layout, model.moe.router.num_experts, rules);
  check_tensor_parallel(layout, model, rules);
}

}  // namespace jevons
