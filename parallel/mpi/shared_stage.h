// Memory that all ranks of a node see, through which large collectives pass in pieces: a copy in and a copy
// out at cache speed, where messages would go through the kernel. A stage has two halves used in turn, so
// that writing the next piece needs no wait for the readers of the last one.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <vector>

namespace jevons {

class SharedStage {
 public:
  // Collective. All ranks of `comm` must be on one node; `comm` must outlive this.
  SharedStage(MPI_Comm comm, std::size_t half_bytes);
  ~SharedStage();  // collective, but for a rank on which an exception is on its way out
  SharedStage(const SharedStage&) = delete;
  SharedStage& operator=(const SharedStage&) = delete;

  std::size_t half_bytes() const { return half_bytes_; }
  // This rank's part, and any rank's, of the half in use.
  std::byte* mine() const { return base_[static_cast<std::size_t>(rank_)] + offset_; }
  const std::byte* of(int rank) const { return base_[static_cast<std::size_t>(rank)] + offset_; }
  // Waits for all ranks; then all see what each wrote before.
  void publish();
  // To the other half. Between two turns every rank calls publish() at least once.
  void turn() { offset_ = offset_ == 0 ? half_bytes_ : 0; }

 private:
  MPI_Comm comm_;
  MPI_Win window_ = MPI_WIN_NULL;
  int rank_ = 0;
  std::size_t half_bytes_, offset_ = 0;
  std::vector<std::byte*> base_;  // by rank
};

}  // namespace jevons
