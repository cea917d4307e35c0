#include "parallel/mpi/shared_stage.h"

#include <exception>

#include "kernels/core/error.h"

namespace jevons {

SharedStage::SharedStage(MPI_Comm comm, std::size_t half_bytes) : comm_(comm), half_bytes_(half_bytes) {
  int size = 0;
  MPI_Comm_rank(comm, &rank_);
  MPI_Comm_size(comm, &size);
  void* own = nullptr;
  const auto bytes = static_cast<MPI_Aint>(2 * half_bytes);
  ENSURE(MPI_Win_allocate_shared(bytes, 1, MPI_INFO_NULL, comm, &own, &window_) == MPI_SUCCESS,
         "MPI gives no shared memory of {} bytes per rank", bytes);
  for (int r = 0; r < size; ++r) {
    MPI_Aint there = 0;
    int unit = 0;
    void* base = nullptr;
    MPI_Win_shared_query(window_, r, &there, &unit, &base);
    base_.push_back(static_cast<std::byte*>(base));
  }
  MPI_Win_lock_all(MPI_MODE_NOCHECK, window_);
}

SharedStage::~SharedStage() {
  if (std::uncaught_exceptions() > 0) return;
  MPI_Win_unlock_all(window_);
  MPI_Win_free(&window_);
}

void SharedStage::publish() {
  MPI_Win_sync(window_);
  ENSURE(MPI_Barrier(comm_) == MPI_SUCCESS, "a barrier of the ranks on this node failed");
  MPI_Win_sync(window_);
}

}  // namespace jevons
