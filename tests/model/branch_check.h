// What every branch of a block promises (trainer/model/branch.h) and every layer of its two halves of
// backward, checked on any of them: gradients against central differences, and that neither a mode of
// recompute nor the halves change a bit.
#pragma once

#include <string>
#include <vector>

#include "parallel/meta/meta_communicator.h"
#include "tests/model/grad_check.h"
#include "tests/support/compare.h"
#include "tests/support/tiny_model.h"
#include "trainer/model/branch.h"

namespace jevons::test {

inline constexpr Recompute kModes[] = {Recompute::kNone, Recompute::kSelective, Recompute::kFull};
enum class Halves { kTogether, kApart };

// Forward as a block runs it.
template <class B>
Tensor run_forward(const B& branch, const Context& ctx, Tensor x, const Sequences& sequences,
                   typename B::Saved& saved, Recompute mode = Recompute::kNone) {
  const Tensor y = branch.forward(keep_of(ctx, mode), x, sequences, saved);
  drop<B>(saved, mode);
  return y;
}

// Backward as a block runs it; dx in the stash if the halves are apart, and work poisoned between them.
template <class B>
Tensor run_backward(B& branch, const Context& ctx, Tensor x, Tensor dy, typename B::Saved& saved,
                    Recompute mode, Halves halves = Halves::kTogether, const LossScales& scales = {}) {
  const bool apart = halves == Halves::kApart;
  if (mode != Recompute::kNone) branch.restore(apart ? ctx : scratch(ctx), x, saved);
  if (!apart) return backward(branch, ctx, dy, saved, scales);
  const Tensor in_work = branch.backward_input(ctx, dy, saved, scales);
  const Tensor dx = ctx.stash->alloc(in_work.shape, in_work.dtype);
  std::memcpy(dx.data, in_work.data, dx.bytes());
  reset_and_poison(*ctx.work);
  branch.backward_weight(ctx, saved);
  return dx;
}

// `run(bed, halves)` builds a layer and runs it there and back in f32; it returns all numbers but the
// weights' gradients, which are compared too.
template <class Run>
void check_halves(Run run) {
  const auto numbers = [&](Halves halves) {
    MetaCommunicator world(0, 1);
    TestBed bed(world, DType::kF32);
    std::vector<double> all = run(bed, halves);
    for (const auto& [name, values] : gradients_of(bed.store))
      all.insert(all.end(), values.begin(), values.end());
    return all;
  };
  CHECK(numbers(Halves::kTogether) == numbers(Halves::kApart));
}

// The same of a Layer from x to dy's shape; make(bed) builds it.
template <class Make>
void check_layer_halves(Make make, Shape x_shape, Shape y_shape) {
  check_halves([&](TestBed& bed, Halves halves) {
    const auto layer = make(bed);
    static_assert(Layer<std::remove_cvref_t<decltype(layer)>>);
    bed.place_weights();
    typename std::remove_cvref_t<decltype(layer)>::Saved saved;
    const Tensor dy = bed.random(y_shape, "dy");
    std::vector<double> all = to_vector(layer.forward(bed.ctx, bed.random(x_shape, "x"), saved));
    std::vector<double> dx;
    if (halves == Halves::kTogether) {
      reset_and_poison(bed.work);
      dx = to_vector(backward(layer, bed.ctx, dy, saved));
    } else {
      dx = to_vector(layer.backward_input(bed.ctx, dy, saved));
      reset_and_poison(bed.work);
      layer.backward_weight(bed.ctx, saved);
    }
    all.insert(all.end(), dx.begin(), dx.end());
    return all;
  });
}

namespace detail {

struct BranchRun {
  std::vector<double> numbers;
  std::size_t kept = 0;  // bytes, from forward to backward
};

template <class Make>
BranchRun run_branch(Make make, std::int64_t rows, const Sequences& sequences, Recompute mode,
                     Halves halves) {
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kF32);
  auto branch = make(bed);
  bed.place_weights();
  const Tensor x = bed.random({rows, tiny_dense().hidden_size}, "x"), dy = bed.random(x.shape, "dy");
  typename decltype(branch)::Saved saved;
  BranchRun run{.numbers = to_vector(run_forward(branch, bed.ctx, x, sequences, saved, mode)),
                .kept = bed.stash.used_bytes()};
  CHECK(to_vector(infer(branch, bed.ctx, x, sequences)) == run.numbers);
  CHECK(bed.stash.used_bytes() == run.kept);
  reset_and_poison(bed.work);
  const std::vector<double> dx = to_vector(run_backward(branch, bed.ctx, x, dy, saved, mode, halves));
  CHECK((bed.stash.used_bytes() == run.kept) == (halves == Halves::kTogether));
  run.numbers.insert(run.numbers.end(), dx.begin(), dx.end());
  for (const auto& [name, values] : gradients_of(bed.store)) {
    run.numbers.insert(run.numbers.end(), values.begin(), values.end());
  }
  return run;
}

}  // namespace detail

// A branch of hidden size 16 over two sequences of 8 rows, which make(bed) builds.
template <class Make>
void check_branch(Make make, std::int64_t second_document = 0) {
  MetaCommunicator world(0, 1);
  TestBed own(world);
  const std::int64_t rows = 16, length = 8;
  const Sequences sequences = sequences_of(own, 2, length, second_document);
  const detail::BranchRun want =
      detail::run_branch(make, rows, sequences, Recompute::kNone, Halves::kTogether);
  std::size_t kept = want.kept;
  for (const Recompute mode : kModes) {
    for (const Halves halves : {Halves::kTogether, Halves::kApart}) {
      INFO("recompute " << static_cast<int>(mode) << ", halves " << static_cast<int>(halves));
      const detail::BranchRun run = detail::run_branch(make, rows, sequences, mode, halves);
      CHECK(run.numbers == want.numbers);
      CHECK(run.kept <= kept);
      kept = run.kept;

      TestBed bed(world);
      auto branch = make(bed);
      bed.place_weights();
      const Tensor x = bed.random({rows, tiny_dense().hidden_size}, "x");
      typename decltype(branch)::Saved saved;
      check_layer(
          bed, x, x.shape,
          [&](const Context& ctx, Tensor in) { return run_forward(branch, ctx, in, sequences, saved, mode); },
          [&](const Context& ctx, Tensor dy) {
            reset_and_poison(*ctx.work);
            return run_backward(branch, ctx, x, dy, saved, mode, halves);
          },
          {.probes = 12});
    }
  }
}

}  // namespace jevons::test
