// Which checkpoints of a run stay. Only what lies before a committed checkpoint is ever deleted, and its
// manifest goes first: a directory that is half deleted is no checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"

namespace jevons {

// A checkpoint stays if one of the rules wants it. keep_last = 0: all stay.
struct Retention {
  std::int64_t keep_last = 0;   // the newest so many
  std::int64_t keep_every = 0;  // steps that are multiples of this; 0: none for this reason
  std::int64_t keep_best = 0;   // so many with the lowest validation loss, the newer of equals
};

// TrainState::passport[kValidationLoss]: loss (nats) at exactly this step, as text; absent without
// validation.
inline constexpr const char* kValidationLoss = "validation_loss";
void set_validation_loss(TrainState& state, double loss);
std::optional<double> validation_loss_of(const TrainState& state);

struct SavedStep {
  std::int64_t step = 0;
  std::optional<double> validation_loss;
};
// The steps that no rule wants, ascending. `saved` ascends by step; its last element always stays.
std::vector<std::int64_t> superfluous_steps(const std::vector<SavedStep>& saved, const Retention& retention);

// Deletes what no rule wants of the checkpoints in `dir` up to step `committed`, which was just saved, and
// what older saves that died have left. Later steps (the run went back to an older checkpoint) stay. Not
// collective: one rank calls it. Returns the steps deleted; throws Error(kFailure) if a file cannot be
// removed.
std::vector<std::int64_t> apply_retention(const std::string& dir, std::int64_t committed,
                                          const Retention& retention);

}  // namespace jevons
