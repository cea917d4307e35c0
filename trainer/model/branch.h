// What a branch of a block is: attention or an FFN of any kind, from rows (S, D) of the residual stream to
// rows (S, D) that are added to it. A new one is a class that meets this contract and a line in branches.h.
#pragma once

#include <concepts>
#include <type_traits>
#include <variant>

#include "trainer/model/loss_scales.h"
#include "trainer/model/recompute.h"
#include "trainer/model/sequences.h"

namespace jevons {

namespace detail {
struct Visitor {
  void operator()(SavedKind, Tensor&) const {}
};
}  // namespace detail

template <class B>
concept ResidualBranch = requires(B& branch, const B& same, const Keep& keep, const Context& ctx, Tensor x,
                                  Tensor dy, const Sequences& sequences, const LossScales& scales,
                                  typename B::Saved& saved) {
  // (S, D) -> (S, D) in ctx.work. What backward needs goes to the place in `keep` of its kind.
  { same.forward(keep, x, sequences, saved) } -> std::same_as<Tensor>;
  // Makes what drop() left out again, in ctx.stash, from forward's x and from what is left. Chooses nothing
  // anew.
  { same.restore(ctx, x, saved) } -> std::same_as<void>;
  // As a Layer's, with the gradient of x in ctx.work.
  { branch.backward_input(ctx, dy, saved, scales) } -> std::same_as<Tensor>;
  { same.backward_weight(ctx, saved) } -> std::same_as<void>;
  // Whether backward reads x itself and not a copy, so that x must live as long as what is kCheap.
  { same.saves_input() } -> std::same_as<bool>;
  // f(SavedKind, Tensor&) of every tensor of `saved` that lies in an arena.
  { B::for_each_saved(saved, detail::Visitor{}) } -> std::same_as<void>;
};

// Both halves of backward; nothing stays in ctx.stash. A branch may have a backward of its own, with the same
// bits, that computes the weights' half while something travels.
template <ResidualBranch B>
Tensor backward(B& branch, const Context& ctx, Tensor dy, typename B::Saved& saved,
                const LossScales& scales) {
  const Context inner = scratch(ctx);
  if constexpr (requires { branch.backward(inner, dy, saved, scales); }) {
    return branch.backward(inner, dy, saved, scales);
  } else {
    const Tensor dx = branch.backward_input(inner, dy, saved, scales);
    branch.backward_weight(inner, saved);
    return dx;
  }
}

// Forgets what `mode` does not keep: its memory is released after forward.
template <ResidualBranch B>
void drop(typename B::Saved& saved, Recompute mode) {
  B::for_each_saved(saved, [mode](SavedKind kind, Tensor& tensor) {
    if (!outlives_forward(kind, mode)) tensor = {};
  });
}

// Forward that nobody goes back through: (S, D) -> (S, D) in ctx.work; ctx.stash stays as it is.
template <ResidualBranch B>
Tensor infer(const B& branch, const Context& ctx, Tensor x, const Sequences& sequences) {
  typename B::Saved dropped;
  return branch.forward(keep_of(scratch(ctx), Recompute::kNone), x, sequences, dropped);
}

namespace detail {
template <class Branches>
struct SavedOfVariant;
template <class... Bs>
struct SavedOfVariant<std::variant<Bs...>> {
  using type = std::variant<typename Bs::Saved...>;
};
}  // namespace detail

// Of a std::variant of branches: that of their Saved.
template <class Branches>
using SavedOf = typename detail::SavedOfVariant<Branches>::type;

// f(branch, its Saved) of the one that `branches` holds.
template <class Branches, class F>
decltype(auto) visit_branch(Branches& branches, SavedOf<std::remove_const_t<Branches>>& saved, F f) {
  return std::visit(
      [&](auto& branch) -> decltype(auto) {
        using Saved = typename std::remove_cvref_t<decltype(branch)>::Saved;
        if (!std::holds_alternative<Saved>(saved)) saved.template emplace<Saved>();
        return f(branch, std::get<Saved>(saved));
      },
      branches);
}

}  // namespace jevons
