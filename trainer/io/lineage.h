// Which steps belong to a run as it stands. A run that goes back, to an older checkpoint or to its beginning,
// leaves steps behind and goes on on a branch of its own. Rule: docs/checkpoint.md.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace jevons {

struct Branch {
  std::uint64_t id = 0;    // > 0, no other branch of the run has it; 0 is what a run begins on
  std::int64_t after = 0;  // where it leaves the one before: it made the steps above this one
  bool operator==(const Branch&) const = default;
};

// From the first step to the last one made.
class Lineage {
 public:
  Lineage() = default;
  explicit Lineage(const std::vector<Branch>& branches);

  // Goes back to `branch.after` and on from there.
  void take(const Branch& branch);
  // Ascending by `after`; empty for a run that never went back.
  const std::vector<Branch>& branches() const { return branches_; }
  std::uint64_t branch() const { return branches_.empty() ? 0 : branches_.back().id; }  // the last one
  // Of the branch that made finished step `step`.
  std::uint64_t branch_at(std::int64_t step) const;
  // The last step of a branch that belongs to this line: the largest number there is for the last branch,
  // nothing for one that was left behind whole.
  std::optional<std::int64_t> end_of(std::uint64_t branch) const;

  bool operator==(const Lineage&) const = default;

 private:
  std::vector<Branch> branches_;
};

}  // namespace jevons
