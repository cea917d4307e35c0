#include "parallel/mpi/mpi_communicator.h"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/ordered_sum.h"

namespace jevons {

namespace {

// On a node, from this many bytes per rank on, shared memory beats messages.
constexpr std::size_t kStageFrom = 64 << 10;
// One half of a rank's stage.
constexpr std::size_t kStageHalf = 1 << 20;
// all_reduce of at most this many bytes: one gather of everything costs less than two rounds.
constexpr std::size_t kGatherUpTo = 32 << 10;
// Messages between two ranks need no tag: their order is the order of the program.
constexpr int kTag = 0;

// Sums are ours, so MPI need only know how wide an element is.
MPI_Datatype wire_type(DType dtype) {
  switch (size_of(dtype)) {
    case 8:
      return MPI_INT64_T;
    case 4:
      return MPI_INT32_T;
    case 2:
      return MPI_INT16_T;
    default:
      return MPI_BYTE;
  }
}

// What MPI gets as the address of what it sends and of where it receives. Open MPI takes two that are equal,
// null among them, for "in place" and then exchanges other messages than the other ranks; so a tensor or a
// vector without elements, which may have any address, has one here that is none of the other's.
const void* sent_from(const void* data, std::int64_t elements) {
  static constexpr std::byte nothing{};
  return elements == 0 ? &nothing : data;
}
void* received_at(void* data, std::int64_t elements) {
  static std::byte nothing{};
  return elements == 0 ? &nothing : data;
}
const void* sent_from(const Tensor& tensor) {
  return sent_from(tensor.data, tensor.numel());
}
void* received_at(const Tensor& tensor) {
  return received_at(tensor.data, tensor.numel());
}

std::byte* element(const Tensor& tensor, std::int64_t index) {
  return static_cast<std::byte*>(tensor.data) + static_cast<std::size_t>(index) * size_of(tensor.dtype);
}

std::size_t bytes_of(std::int64_t elements, DType dtype) {
  return static_cast<std::size_t>(elements) * size_of(dtype);
}

// First element of rank r's slice when n elements are split over `ranks`.
std::int64_t slice_begin(std::int64_t n, int r, int ranks) {
  return n * r / ranks;
}

// Counts and displacements of one side of an exchange.
struct Blocks {
  std::vector<int> counts, begins;
  void add(int count) {
    begins.push_back(counts.empty() ? 0 : begins.back() + counts.back());
    counts.push_back(count);
  }
};

// A request, what must live until it is done, and what is left to do then.
struct MpiPending final : Work::Pending {
  MpiPending(const MpiCommunicator& over, const char* what) : communicator(over), collective(what) {}
  void wait() override {
    communicator.check(MPI_Wait(&request, MPI_STATUS_IGNORE), collective);
    if (then) then();
  }
  const MpiCommunicator& communicator;
  const char* collective;
  MPI_Request request = MPI_REQUEST_NULL;
  Blocks send, recv;
  std::vector<std::byte> received;
  std::function<void()> then;
};

// Parts of equal size, one after another, as the addresses that reduce_in_rank_order takes.
std::vector<const void*> parts_of(const std::byte* first, std::size_t part_bytes, int ranks) {
  std::vector<const void*> parts;
  for (int r = 0; r < ranks; ++r) parts.push_back(first + static_cast<std::size_t>(r) * part_bytes);
  return parts;
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_world() {
  MPI_Comm world = MPI_COMM_NULL;
  int rank = 0, size = 1;
  MPI_Comm_dup(MPI_COMM_WORLD, &world);
  MPI_Comm_rank(world, &rank);
  MPI_Comm_size(world, &size);
  return std::make_unique<MpiCommunicator>(world, rank, size, "world");
}

MpiCommunicator::MpiCommunicator(MPI_Comm comm, int rank, int size, std::string name)
    : Communicator(rank, size, std::move(name)), comm_(comm) {
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm node = MPI_COMM_NULL;
  check(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node), "split by node");
  int local = 0;
  MPI_Comm_size(node, &local);
  MPI_Comm_free(&node);
  // Nodes may hold different numbers of ranks; with all of them on one, every rank sees all.
  one_node_ = local == size;
}

MpiCommunicator::~MpiCommunicator() {
  // Freeing is collective: a rank that fails must go on to main(), which ends the job.
  if (std::uncaught_exceptions() > 0) {
    stage_.release();
    return;
  }
  stage_.reset();
  MPI_Comm_free(&comm_);
}

void MpiCommunicator::abort(int exit_code) {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::abort();
}

void MpiCommunicator::check(int code, const char* collective) const {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail(ExitCode::kFailure, "{} over {}, rank {} of {}: {}", collective, name(), rank(), size(),
       std::string(text, static_cast<std::size_t>(length)));
}

int MpiCommunicator::count_of(std::int64_t elements, const char* collective, const Tensor& what) const {
  if (elements > INT_MAX) {
    fail(ExitCode::kFailure, "{} over {}, rank {}: {} is more than the {} elements that one MPI call takes",
         collective, name(), rank(), what.to_string(), INT_MAX);
  }
  return static_cast<int>(elements);
}

void MpiCommunicator::expect_host(const char* collective, const Tensor& tensor) const {
  if (tensor.device == Device::kCpu) return;
  fail(ExitCode::kFailure, "{} over {}, rank {}: {} is not in host memory", collective, name(), rank(),
       tensor.to_string());
}

bool MpiCommunicator::use_stage(std::size_t bytes) const {
  return one_node_ && bytes >= kStageFrom;
}

SharedStage& MpiCommunicator::stage() {
  if (stage_ == nullptr) stage_ = std::make_unique<SharedStage>(comm_, kStageHalf);
  return *stage_;
}

Work MpiCommunicator::do_all_reduce(Tensor inout, ReduceOp op) {
  expect_host("all_reduce", inout);
  if (use_stage(inout.bytes())) {
    staged_all_reduce(inout, op);
    return {};
  }
  if (inout.bytes() <= kGatherUpTo) return gathered_all_reduce(inout, op);
  scattered_all_reduce(inout, op);
  return {};
}

Work MpiCommunicator::gathered_all_reduce(Tensor inout, ReduceOp op) {
  auto pending = std::make_unique<MpiPending>(*this, "all_reduce");
  const int n = count_of(inout.numel(), "all_reduce", inout);
  const MPI_Datatype type = wire_type(inout.dtype);
  pending->received.resize(static_cast<std::size_t>(size()) * inout.bytes());
  std::byte* all = pending->received.data();
  check(MPI_Iallgather(sent_from(inout), n, type, received_at(all, n), n, type, comm_, &pending->request),
        "all_reduce");
  pending->then = [=, ranks = size()] {
    reduce_in_rank_order(op, inout.dtype, parts_of(all, inout.bytes(), ranks), n, inout.data);
  };
  return Work(std::move(pending));
}

// Every rank receives all ranks' versions of its slice, sums them, and the sums are gathered.
void MpiCommunicator::scattered_all_reduce(Tensor inout, ReduceOp op) {
  const std::int64_t n = inout.numel();
  count_of(n, "all_reduce", inout);
  Blocks slices, copies;
  const auto slice_size = [&](int r) {
    return static_cast<int>(slice_begin(n, r + 1, size()) - slice_begin(n, r, size()));
  };
  for (int r = 0; r < size(); ++r) slices.add(slice_size(r)), copies.add(slice_size(rank()));
  const std::size_t slice_bytes = bytes_of(slice_size(rank()), inout.dtype);
  std::vector<std::byte> received(static_cast<std::size_t>(size()) * slice_bytes);
  const MPI_Datatype type = wire_type(inout.dtype);
  check(MPI_Alltoallv(inout.data, slices.counts.data(), slices.begins.data(), type, received.data(),
                      copies.counts.data(), copies.begins.data(), type, comm_),
        "all_reduce");
  reduce_in_rank_order(op, inout.dtype, parts_of(received.data(), slice_bytes, size()), slice_size(rank()),
                       element(inout, slice_begin(n, rank(), size())));
  check(MPI_Allgatherv(MPI_IN_PLACE, 0, type, inout.data, slices.counts.data(), slices.begins.data(), type,
                       comm_),
        "all_reduce");
}

void MpiCommunicator::staged_all_reduce(Tensor inout, ReduceOp op) {
  SharedStage& shared = stage();
  const auto capacity = static_cast<std::int64_t>(shared.half_bytes() / size_of(inout.dtype));
  std::vector<const void*> parts(static_cast<std::size_t>(size()));
  for (std::int64_t first = 0; first < inout.numel(); first += capacity) {
    const std::int64_t n = std::min(capacity, inout.numel() - first);
    const auto begin = [&](int r) { return slice_begin(n, r, size()); };
    const auto offset = [&](int r) { return bytes_of(begin(r), inout.dtype); };
    const auto slice_bytes = [&](int r) { return offset(r + 1) - offset(r); };
    for (int r = 0; r < size(); ++r) {
      if (r != rank())
        std::memcpy(shared.mine() + offset(r), element(inout, first + begin(r)), slice_bytes(r));
    }
    shared.publish();
    std::byte* own = element(inout, first + begin(rank()));
    for (int r = 0; r < size(); ++r) {
      parts[static_cast<std::size_t>(r)] = r == rank() ? own : shared.of(r) + offset(rank());
    }
    reduce_in_rank_order(op, inout.dtype, parts, begin(rank() + 1) - begin(rank()), own);
    std::memcpy(shared.mine() + offset(rank()), own, slice_bytes(rank()));
    shared.publish();
    for (int r = 0; r < size(); ++r) {
      if (r != rank())
        std::memcpy(element(inout, first + begin(r)), shared.of(r) + offset(r), slice_bytes(r));
    }
    shared.turn();
  }
}

Work MpiCommunicator::do_all_gather(Tensor in, Tensor out, Placement placement) {
  expect_host("all_gather", in);
  if (use_stage(in.bytes())) {
    staged_all_gather(in, out, placement);
    return {};
  }
  auto pending = std::make_unique<MpiPending>(*this, "all_gather");
  count_of(out.numel(), "all_gather", out);  // Open MPI finds a rank's part in 32 bits
  const int n = count_of(in.numel(), "all_gather", in);
  const MPI_Datatype type = wire_type(in.dtype);
  const void* const from = placement == Placement::kInPlace ? MPI_IN_PLACE : sent_from(in);
  check(MPI_Iallgather(from, n, type, received_at(out), n, type, comm_, &pending->request), "all_gather");
  return Work(std::move(pending));
}

void MpiCommunicator::staged_all_gather(Tensor in, Tensor out, Placement placement) {
  SharedStage& shared = stage();
  const auto capacity = static_cast<std::int64_t>(shared.half_bytes() / size_of(in.dtype));
  if (placement == Placement::kApart) std::memcpy(element(out, rank() * in.numel()), in.data, in.bytes());
  for (std::int64_t first = 0; first < in.numel(); first += capacity) {
    const std::size_t bytes = bytes_of(std::min(capacity, in.numel() - first), in.dtype);
    std::memcpy(shared.mine(), element(in, first), bytes);
    shared.publish();
    for (int r = 0; r < size(); ++r) {
      if (r != rank()) std::memcpy(element(out, r * in.numel() + first), shared.of(r), bytes);
    }
    shared.turn();
  }
}

// In place is as good as apart: all parts have left `in` when the sum is written.
Work MpiCommunicator::do_reduce_scatter(Tensor in, Tensor out, Placement) {
  expect_host("reduce_scatter", in);
  if (use_stage(in.bytes())) {
    staged_reduce_scatter(in, out);
    return {};
  }
  auto pending = std::make_unique<MpiPending>(*this, "reduce_scatter");
  count_of(in.numel(), "reduce_scatter", in);  // Open MPI finds a rank's part in 32 bits
  const int n = count_of(out.numel(), "reduce_scatter", out);
  const MPI_Datatype type = wire_type(in.dtype);
  pending->received.resize(in.bytes());
  std::byte* all = pending->received.data();
  check(MPI_Ialltoall(sent_from(in), n, type, received_at(all, n), n, type, comm_, &pending->request),
        "reduce_scatter");
  pending->then = [=, ranks = size()] {
    reduce_in_rank_order(ReduceOp::kSum, out.dtype, parts_of(all, out.bytes(), ranks), n, out.data);
  };
  return Work(std::move(pending));
}

void MpiCommunicator::staged_reduce_scatter(Tensor in, Tensor out) {
  SharedStage& shared = stage();
  const std::int64_t n = out.numel();
  const auto capacity = static_cast<std::int64_t>(shared.half_bytes() / size_of(in.dtype)) / size();
  const std::size_t piece_bytes = bytes_of(capacity, in.dtype);
  std::vector<const void*> parts(static_cast<std::size_t>(size()));
  for (std::int64_t first = 0; first < n; first += capacity) {
    const std::int64_t count = std::min(capacity, n - first);
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      std::memcpy(shared.mine() + static_cast<std::size_t>(r) * piece_bytes, element(in, r * n + first),
                  bytes_of(count, in.dtype));
    }
    shared.publish();
    for (int r = 0; r < size(); ++r) {
      parts[static_cast<std::size_t>(r)] =
          r == rank() ? element(in, rank() * n + first)
                      : shared.of(r) + static_cast<std::size_t>(rank()) * piece_bytes;
    }
    reduce_in_rank_order(ReduceOp::kSum, in.dtype, parts, count, element(out, first));
    shared.turn();
  }
}

Work MpiCommunicator::do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                                      std::span<const std::int64_t> recv_rows) {
  expect_host("all_to_all_v", in);
  count_of(in.numel(), "all_to_all_v", in);
  count_of(out.numel(), "all_to_all_v", out);
  auto pending = std::make_unique<MpiPending>(*this, "all_to_all_v");
  const auto row = static_cast<std::int64_t>(row_bytes(in) / size_of(in.dtype));
  for (std::int64_t rows : send_rows) pending->send.add(static_cast<int>(rows * row));
  for (std::int64_t rows : recv_rows) pending->recv.add(static_cast<int>(rows * row));
  const MPI_Datatype type = wire_type(in.dtype);
  const Blocks &send = pending->send, &recv = pending->recv;
  check(MPI_Ialltoallv(sent_from(in), send.counts.data(), send.begins.data(), type, received_at(out),
                       recv.counts.data(), recv.begins.data(), type, comm_, &pending->request),
        "all_to_all_v");
  return Work(std::move(pending));
}

Work MpiCommunicator::do_broadcast(Tensor inout, int root) {
  expect_host("broadcast", inout);
  auto pending = std::make_unique<MpiPending>(*this, "broadcast");
  const int n = count_of(inout.numel(), "broadcast", inout);
  check(MPI_Ibcast(received_at(inout), n, wire_type(inout.dtype), root, comm_, &pending->request),
        "broadcast");
  return Work(std::move(pending));
}

Work MpiCommunicator::do_send(Tensor in, int peer) {
  expect_host("send", in);
  auto pending = std::make_unique<MpiPending>(*this, "send");
  const int n = count_of(in.numel(), "send", in);
  check(MPI_Isend(sent_from(in), n, wire_type(in.dtype), peer, kTag, comm_, &pending->request), "send");
  return Work(std::move(pending));
}

Work MpiCommunicator::do_recv(Tensor out, int peer) {
  expect_host("recv", out);
  auto pending = std::make_unique<MpiPending>(*this, "recv");
  const int n = count_of(out.numel(), "recv", out);
  check(MPI_Irecv(received_at(out), n, wire_type(out.dtype), peer, kTag, comm_, &pending->request), "recv");
  return Work(std::move(pending));
}

void MpiCommunicator::do_barrier() {
  check(MPI_Barrier(comm_), "barrier");
}

std::unique_ptr<Communicator> MpiCommunicator::do_split(std::span<const int> members, int new_rank,
                                                        std::string name) {
  MPI_Group all = MPI_GROUP_NULL, chosen = MPI_GROUP_NULL;
  MPI_Comm comm = MPI_COMM_NULL;
  check(MPI_Comm_group(comm_, &all), "split");
  check(MPI_Group_incl(all, static_cast<int>(members.size()), members.data(), &chosen), "split");
  check(MPI_Comm_create_group(comm_, chosen, kTag, &comm), "split");
  MPI_Group_free(&chosen);
  MPI_Group_free(&all);
  return std::make_unique<MpiCommunicator>(comm, new_rank, static_cast<int>(members.size()), std::move(name));
}

}  // namespace jevons
