// Load of the experts of one MoE layer over a step: balance losses, selection bias, health figures. Formulas,
// and the value of each loss at perfect balance: docs/moe.md. Legend: T rows of this rank, E experts, S
// sequences of the micro-batch.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/core/exact_sum.h"
#include "kernels/figures.h"
#include "kernels/moe/balance.h"
#include "parallel/param_store.h"
#include "trainer/model/loss_scales.h"
#include "trainer/model/model_config.h"
#include "trainer/model/quantile_bias.h"

namespace jevons {

// One layer over the global batch of a step. Losses are without their coefficient; nothing where it is 0.
struct LayerHealth {
  std::int64_t layer = 0;                     // of the model
  double max_over_mean = 0;                   // slots of the busiest expert over the mean of all
  std::int64_t dead_experts = 0;              // chosen by no token
  double router_entropy = 0;                  // nats per token, of the scores normalised to sum 1
  std::int64_t dropped_slots = 0;             // over capacity
  std::vector<std::int64_t> load;             // (E) slots of every expert
  std::int64_t max_rows = 0;                  // most rows that the experts of one rank got in one micro-batch
  std::optional<double> micro_batch_balance;  // 1 at perfect balance, like the next two
  std::optional<double> sequence_balance;
  std::optional<double> global_balance;
  std::optional<double> z_loss;
};

// The routing of one micro-batch, as forward stored it.
struct RoutedBatch {
  Tensor logits;  // (T, E)
  RouterOutput out;
  Segments sequences;           // where the T rows lie in the micro-batch
  std::vector<Tensor> dropped;  // (1) i64 each: slots over capacity
  std::int64_t rows = 0;        // of this rank's experts
};

enum class BiasUpdate : std::uint8_t { kApply, kSkip };

class Balance {
 public:
  Balance(ParamStore& store, const MoeConfig& config);

  // Adds a micro-batch to the step and returns the gradient (T, E) of all balance losses with respect to the
  // scores, in ctx.work; undefined when there is none. Collective over tp and cp, and over all ranks with the
  // loss over the global batch.
  Tensor accumulate(const Context& ctx, const RoutedBatch& batch, const LossScales& scales);
  // Factor of the z-loss per row.
  double z_scale(const LossScales& scales) const { return config_.z_loss * scales.position; }

  void set_bias_update_rate(double rate) { config_.bias_update_rate = rate; }
  // (E) accumulator dtype, equal on all ranks, starts at 0; undefined without use_selection_bias.
  Tensor selection_bias() const { return config_.use_selection_bias ? here_.bias : Tensor{}; }

  // After a step's last backward: sums the load of `layers` over all ranks, updates every selection bias, by
  // its rate towards the mean load (DeepSeek-V3, arXiv:2412.19437, section 2.1.2; arXiv:2408.15664, algorithm
  // 1) or as QuantileBias, and starts the next step. One call for all layers; collective. kSkip, for a step
  // that changed no weight, leaves the biases. On kMeta all figures are 0 and no loss is known.
  static std::vector<LayerHealth> end_step(const Context& ctx, std::span<Balance* const> layers,
                                           BiasUpdate update);

 private:
  // What accumulate() finds of a micro-batch, on the device; and the sums over them, which do not depend on
  // how micro-batches are spread.
  enum Figure : std::int64_t { kMicroBatch, kSequence, kGlobal, kZ, kEntropy, kNumFigures };
  using Sums = std::array<ExactSum, kNumFigures>;
  static constexpr std::int64_t kSumParts = kNumFigures * ExactSum::kParts;
  // Loads of the step so far and the bias, in one block of memory.
  struct Tally {
    Tally() = default;
    Tally(Buffer buffer, std::int64_t experts, DType bias_dtype);
    static std::size_t bytes_for(std::int64_t experts);

    Buffer memory;
    Tensor load;         // (E) i64, slots of this rank's tokens
    Tensor global_load;  // (E) i64, slots of all ranks' tokens; for the global loss
    Tensor dropped;      // (1) i64, slots of this rank's tokens over capacity
    Tensor counts;       // these three
    Tensor bias;         // (E)
  };

  bool has_loss() const;
  static Tensor sum_of_segments(const Context& ctx, Tensor counts);
  void add_global_load(const Context& ctx, Tensor counts);
  Sums sums() const;
  BalanceFactors factors(const Segments& sequences, const LossScales& scales) const;
  // The layer's figures over all ranks.
  struct Totals {
    std::span<const std::int64_t> load;  // (E)
    Sums sums;
    std::int64_t dropped, max_rows;
  };
  LayerHealth finish(const Context& ctx, const Totals& totals, BiasUpdate update);
  template <class A>
  void move_bias(const Context& ctx, std::span<const std::int64_t> load, double mean);

  MoeConfig config_;
  Communicator* tp_;
  Communicator* cp_;
  Communicator* stage_;
  Figures figures_;
  Tally here_;  // on the device
  Tally host_;  // its copy at the end of a step
  std::optional<QuantileBias> quantile_;
  std::int64_t max_rows_ = 0;
};

}  // namespace jevons
