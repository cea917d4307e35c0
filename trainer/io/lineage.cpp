#include "trainer/io/lineage.h"

#include <limits>

namespace jevons {

Lineage::Lineage(const std::vector<Branch>& branches) {
  for (const Branch& branch : branches) take(branch);
}

void Lineage::take(const Branch& branch) {
  while (!branches_.empty() && branches_.back().after >= branch.after) branches_.pop_back();
  branches_.push_back(branch);
}

std::uint64_t Lineage::branch_at(std::int64_t step) const {
  std::uint64_t id = 0;
  for (const Branch& branch : branches_) {
    if (branch.after < step) id = branch.id;
  }
  return id;
}

std::optional<std::int64_t> Lineage::end_of(std::uint64_t id) const {
  std::uint64_t before = 0;
  for (const Branch& branch : branches_) {
    if (before == id) return branch.after;
    before = branch.id;
  }
  return before == id ? std::optional(std::numeric_limits<std::int64_t>::max()) : std::nullopt;
}

}  // namespace jevons
