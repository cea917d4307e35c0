#include "parallel/meta/meta_communicator.h"

#include <cstdlib>

#include "kernels/core/error.h"

namespace jevons {

MetaCommunicator::MetaCommunicator(int rank, int size, std::string name)
    : Communicator(rank, size, std::move(name)) {
  ENSURE(size >= 1 && rank >= 0 && rank < size, "no rank {} in a world of {}", rank, size);
}

void MetaCommunicator::abort(int exit_code) {
  std::exit(exit_code);
}

Work MetaCommunicator::do_all_reduce(Tensor, ReduceOp) {
  return {};
}
Work MetaCommunicator::do_all_gather(Tensor, Tensor, Placement) {
  return {};
}
Work MetaCommunicator::do_reduce_scatter(Tensor, Tensor, Placement) {
  return {};
}
Work MetaCommunicator::do_all_to_all_v(Tensor, std::span<const std::int64_t>, Tensor,
                                       std::span<const std::int64_t>) {
  return {};
}
Work MetaCommunicator::do_broadcast(Tensor, int) {
  return {};
}
Work MetaCommunicator::do_send(Tensor, int) {
  return {};
}
Work MetaCommunicator::do_recv(Tensor, int) {
  return {};
}
void MetaCommunicator::do_barrier() {}

std::unique_ptr<Communicator> MetaCommunicator::do_split(std::span<const int> members, int new_rank,
                                                         std::string name) {
  return std::make_unique<MetaCommunicator>(new_rank, static_cast<int>(members.size()), std::move(name));
}

}  // namespace jevons
