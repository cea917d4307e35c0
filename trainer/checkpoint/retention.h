// Which checkpoints of a run stay. Only what was made before a committed checkpoint is ever deleted, and its
// manifest goes first: a directory that is half deleted is no checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"

namespace jevons {

// A checkpoint stays if one of the rules wants it. keep_last = 0: all stay. Those that the run has left
// behind (Lineage) stay by keep_last alone, while fewer than so many were made after them.
struct Retention {
  std::int64_t keep_last = 0;   // the newest so many, and the newest so many of the run as it stands
  std::int64_t keep_every = 0;  // steps that are multiples of this; 0: none for this reason
  std::int64_t keep_best = 0;  // so many with the lowest loss on today's validation data, the newer of equals
};

// A loss in nats on what `data` identifies: losses on other data cannot be compared.
struct Validation {
  double loss = 0;
  std::string data;  // "" from version 0.1.0, which did not say
};
// In the passport, as "validation_loss" and "validation_data": at exactly this step; absent without
// validation, or if the loss is not finite.
void set_validation(TrainState& state, const Validation& validation);
std::optional<Validation> validation_of(const TrainState& state);

struct SavedStep {
  std::int64_t step = 0;
  std::optional<Validation> validation;
  bool left_behind = false;
};
// The steps that no rule wants. `saved` is in the order in which they were made; its last element always
// stays.
std::vector<std::int64_t> superfluous_steps(const std::vector<SavedStep>& saved, const Retention& retention);

// Deletes what no rule wants of the checkpoints in `dir`, of which that of step `committed` was made last,
// and what saves of earlier steps have left that died. Not collective: one rank calls it, and a save of a
// later step may be under way. Returns the steps deleted; throws Error(kFailure) if a file cannot be removed.
std::vector<std::int64_t> apply_retention(const std::string& dir, std::int64_t committed,
                                          const Retention& retention);

// Deletes what saves of steps below `below` have left that died; none of those may be under way.
void remove_unfinished(const std::string& dir, std::int64_t below);

}  // namespace jevons
