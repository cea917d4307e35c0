#include "trainer/optim/optimizer.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/profile_range.h"
#include "kernels/elementwise.h"
#include "kernels/optimizer.h"
#include "trainer/optim/newton_schulz.h"

namespace jevons {
namespace {

// Matrices of products, but routers and the head: one row of those is about one expert or one token.
bool is_orthogonalised(const ParamSpec& spec) {
  return spec.role == ParamRole::kMatrix && spec.shape.ndim() == 2 && !spec.keep_f32;
}

}  // namespace

Optimizer::Optimizer(ParamStore& store, const GradReducer& reducer, const OptimConfig& config,
                     std::uint64_t seed)
    : store_(store), config_(config), rules_(make_update_rules(config, seed)) {
  if (rules_.matrices != nullptr) matrices_.emplace(store, reducer, is_orthogonalised);
  const DType wide = accumulator_of(store.compute());
  for (std::size_t g = 0; g < store.groups().size(); ++g) {
    if (store.groups()[g].tie != Tie::kCopy) divide(g, reducer.update_range(g));
  }
  for (Part& part : parts_) {
    const Tensor weights = weights_of(part);
    part.master = weights.dtype == wide ? weights : make(part.range.numel, wide);
    for (const char* name : part.rule->state_names()) {
      part.state.push_back(make(part.range.numel, part.rule->state_dtype(wide)));
      part.prefixes.push_back(std::string("optim.") + name + ".");
    }
  }
}

void Optimizer::divide(std::size_t group, FlatRange range) {
  for (const ParamPiece& piece : store_.pieces(group, range)) {
    const ParamSpec& spec = store_.params()[piece.id].spec;
    const bool by_matrix = rules_.matrices != nullptr && is_orthogonalised(spec);
    const UpdateRule* rule = by_matrix ? rules_.matrices.get() : rules_.others.get();
    const bool decay = spec.role != ParamRole::kVector;
    Part* last = parts_.empty() ? nullptr : &parts_.back();
    if (last != nullptr && last->group == group && last->range.end() == piece.begin && last->rule == rule &&
        last->decay == decay && !rule->by_weight()) {
      last->range.numel += piece.numel();
      continue;
    }
    Part& part = parts_.emplace_back();
    part.group = group, part.range = {piece.begin, piece.numel()}, part.first = piece.id;
    part.rule = rule, part.decay = decay;
  }
}

Tensor Optimizer::make(std::int64_t numel, DType dtype) {
  buffers_.emplace_back(store_.device(), static_cast<std::size_t>(numel) * size_of(dtype));
  return buffers_.back().view(0, {numel}, dtype);
}

Tensor Optimizer::weights_of(const Part& part) const {
  return store_.groups()[part.group].weights.slice(part.range.begin, part.range.end());
}

void Optimizer::adopt_weights(const Context& ctx) {
  for (const Part& part : parts_) {
    const Tensor weights = weights_of(part);
    if (weights.dtype != part.master.dtype) cast(ctx, weights, part.master);
  }
}

void Optimizer::publish_weights(const Context& ctx) const {
  store_.await_weights();
  for (const Part& part : parts_) {
    const Tensor weights = weights_of(part);
    if (weights.dtype != part.master.dtype) cast(ctx, part.master, weights);
  }
}

void Optimizer::step(const Context& ctx, const UpdateStep& step) {
  const ProfileRange range("optimizer");
  store_.await_weights();
  for (const Part& part : parts_) part.rule->prepare(ctx, step, range_of(part));
  if (matrices_) orthogonalise_matrices(ctx);
  for (const Part& part : parts_) part.rule->update(ctx, step, range_of(part));
}

// To a root mean square of update_rms if all singular values were 1: those of an (n, m) matrix have it at 1 /
// sqrt(max(n, m)) (Moonlight, arXiv:2502.16982, section 2.2).
void Optimizer::orthogonalise_matrices(const Context& ctx) const {
  const ProfileRange range("orthogonalise");
  matrices_->for_each(ctx, [&](Tensor u) {
    const auto larger = static_cast<double>(std::max(u.shape[0], u.shape[1]));
    orthogonalise(ctx, config_.muon.iterations, config_.muon.update_rms * std::sqrt(larger), u);
  });
}

UpdateRange Optimizer::range_of(const Part& part) const {
  const Param& param = store_.params()[part.first];
  return {.master = part.master,
          .grad = store_.groups()[part.group].grads.slice(part.range.begin, part.range.end()),
          .weight = weights_of(part),
          .state = part.state,
          .decay = part.decay,
          .param = &param,
          .first = part.range.begin - param.flat_begin};
}

void Optimizer::scale_rows(const Context& ctx, ParamId weight, std::span<const double> factors) {
  const Param& param = store_.params()[weight];
  const std::int64_t rows = std::ssize(factors), cols = param.local_shape.numel() / rows;
  const ArenaScope scope(*ctx.work);
  const DType wide = accumulator_of(store_.compute());
  const Tensor on_device = ctx.work->alloc({rows}, wide);
  const Buffer host(Device::kCpu, on_device.bytes(), Contents::kUndefined);
  const Tensor values = host.view(0, {rows}, wide);
  if (wide == DType::kF64) std::ranges::copy(factors, values.span<double>().begin());
  if (wide == DType::kF32) std::ranges::copy(factors, values.span<float>().begin());
  copy_and_wait(ctx.stream, on_device, values);
  for (const Part& part : parts_) {
    if (part.group != store_.group_of(weight)) continue;
    for (const ParamPiece& piece : store_.pieces(part.group, part.range)) {
      if (piece.id != weight) continue;
      const std::int64_t a = piece.begin - part.range.begin, b = piece.end - part.range.begin;
      jevons::scale_rows(ctx, on_device, piece.begin - param.flat_begin, cols, part.master.slice(a, b),
                         weights_of(part).slice(a, b));
    }
  }
}

std::size_t Optimizer::bytes() const {
  std::size_t sum = 0;
  for (const Buffer& b : buffers_) sum += b.bytes();
  return sum;
}

}  // namespace jevons
