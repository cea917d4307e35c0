#include "parallel/nccl/nccl_communicator.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <functional>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/cuda/ordered_sum.h"

namespace jevons::nccl {
namespace {

// Done when `communication` passes the work that it has now or, if `start` is set, that it has after start().
class DevicePending final : public Work::Pending {
 public:
  DevicePending(Stream& compute, const Stream& communication, std::function<void()> start)
      : compute_(compute), communication_(communication), start_(std::move(start)), done_(Device::kCuda) {
    if (!start_) communication_.record(done_);
  }
  void wait() override {
    if (start_) {
      start_();
      communication_.record(done_);
    }
    compute_.wait(done_);
  }

 private:
  Stream& compute_;
  const Stream& communication_;
  std::function<void()> start_;
  Event done_;
};

std::byte* element(const Tensor& tensor, std::int64_t index) {
  return static_cast<std::byte*>(tensor.data) + static_cast<std::size_t>(index) * size_of(tensor.dtype);
}

cuda::Combine combine_of(ReduceOp op) {
  return op == ReduceOp::kSum   ? cuda::Combine::kSum
         : op == ReduceOp::kMax ? cuda::Combine::kMax
                                : cuda::Combine::kMin;
}

cudaStream_t native(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

Tensor bytes_at(std::byte* data, std::size_t bytes) {
  return {data, {static_cast<std::int64_t>(bytes)}, DType::kU8, Device::kCuda};
}

// First element of rank r's slice when n elements are split over `ranks`.
std::int64_t slice_begin(std::int64_t n, int r, int ranks) {
  return n * r / ranks;
}

// First row that belongs to each rank, and the end.
std::vector<std::int64_t> begins_of(std::span<const std::int64_t> rows) {
  std::vector<std::int64_t> begins{0};
  for (std::int64_t n : rows) begins.push_back(begins.back() + n);
  return begins;
}

}  // namespace

NcclCommunicator::NcclCommunicator(Communicator& hosts, std::unique_ptr<Communicator> owned, Stream& compute,
                                   std::size_t scratch_bytes)
    : Communicator(hosts.rank(), hosts.size(), hosts.name()),
      owned_hosts_(std::move(owned)),
      hosts_(hosts),
      compute_(compute),
      stream_(Device::kCuda),
      ready_(Device::kCuda),
      most_scratch_(scratch_bytes) {
  if (size() == 1) return;
  ncclUniqueId id{};
  if (rank() == 0) check(ncclGetUniqueId(&id), "start");
  hosts_.broadcast({&id, {static_cast<std::int64_t>(sizeof id)}, DType::kU8, Device::kCpu}, 0).wait();
  check(ncclCommInitRank(&comm_, size(), id, rank()), "start");
}

NcclCommunicator::~NcclCommunicator() {
  if (comm_ == nullptr) return;
  // Other ranks may not come to a collective end when an exception ends this one.
  if (std::uncaught_exceptions() > 0) {
    ncclCommAbort(comm_);
    return;
  }
  ncclCommDestroy(comm_);  // after the work that it still has
}

void NcclCommunicator::abort(int exit_code) {
  hosts_.abort(exit_code);
  std::abort();  // unreached, which the compiler does not see through a virtual call
}

void NcclCommunicator::check(ncclResult_t result, const char* collective,
                             std::span<const Transfer> transfers) const {
  if (result == ncclSuccess) return;
  std::string peers;
  for (const Transfer& t : transfers) peers += fmt::format(", {} rank {}", t.direction, t.peer);
  fail(ExitCode::kFailure, "{} over {}, rank {} of {}{}: NCCL: {} {}", collective, name(), rank(), size(),
       peers, ncclGetErrorString(result), ncclGetLastError(comm_));
}

void NcclCommunicator::check_health(const char* collective) const {
  ncclResult_t earlier = ncclSuccess;
  check(ncclCommGetAsyncError(comm_, &earlier), collective);
  check(earlier, collective);
}

// The whole of a collective over one rank.
Work NcclCommunicator::copy_to_self(const Tensor& in, const Tensor& out) {
  copy_async(&compute_, out, in);
  return {};
}

template <class Enqueue>
Work NcclCommunicator::run(const char* collective, Enqueue enqueue) {
  flush();
  check_health(collective);
  compute_.record(ready_);
  stream_.wait(ready_);
  enqueue();
  return Work(std::make_unique<DevicePending>(compute_, stream_, nullptr));
}

template <class Call>
Work NcclCommunicator::defer(const char* collective, Transfer transfer, Call call) {
  if (deferred_.empty()) {
    check_health(collective);
    check(ncclGroupStart(), collective);
  }
  deferred_.push_back(transfer);
  check(call(), collective, {&transfer, 1});
  return Work(std::make_unique<DevicePending>(compute_, stream_, [this] { flush(); }));
}

void NcclCommunicator::flush() {
  if (deferred_.empty()) return;
  const std::vector<Transfer> started = std::exchange(deferred_, {});
  compute_.record(ready_);
  stream_.wait(ready_);
  check(ncclGroupEnd(), "send or recv", started);
}

template <class To, class From>
void NcclCommunicator::exchange(const char* collective, To to, From from) {
  check(ncclGroupStart(), collective);
  for (int r = 0; r < size(); ++r) {
    const Range out = to(r), in = from(r);
    if (r == rank()) {
      if (in.bytes > 0) copy_async(&stream_, bytes_at(in.data, in.bytes), bytes_at(out.data, out.bytes));
      continue;
    }
    const Transfer send{"send to", r}, recv{"recv from", r};
    if (out.bytes > 0) {
      check(ncclSend(out.data, out.bytes, ncclUint8, r, comm_, native(stream_)), collective, {&send, 1});
    }
    if (in.bytes > 0) {
      check(ncclRecv(in.data, in.bytes, ncclUint8, r, comm_, native(stream_)), collective, {&recv, 1});
    }
  }
  check(ncclGroupEnd(), collective);
}

std::int64_t NcclCommunicator::piece_elements(DType dtype) const {
  const std::size_t elements = most_scratch_ / size_of(dtype) / static_cast<std::size_t>(size());
  return std::max<std::int64_t>(static_cast<std::int64_t>(elements), 1);
}

std::byte* NcclCommunicator::scratch(std::size_t bytes) {
  if (scratch_.bytes() < bytes) {
    stream_.synchronise();
    scratch_ = Buffer(Device::kCuda, bytes, Contents::kUndefined);
  }
  return static_cast<std::byte*>(scratch_.view(0, {1}, DType::kU8).data);
}

// In place is as good as apart: all parts are copied before the sum is written.
Work NcclCommunicator::do_reduce_scatter(Tensor in, Tensor out, Placement placement) {
  if (in.device == Device::kCpu) {
    return placement == Placement::kInPlace ? hosts_.reduce_scatter_in_place(in)
                                            : hosts_.reduce_scatter(in, out);
  }
  if (size() == 1) return copy_to_self(in, out);
  return run("reduce_scatter", [&] {
    const std::int64_t whole = out.numel(), most = std::min(piece_elements(in.dtype), whole);
    for (std::int64_t first = 0; first < whole; first += most) {
      const std::int64_t n = std::min(most, whole - first);
      const std::size_t bytes = static_cast<std::size_t>(n) * size_of(in.dtype);
      std::byte* const parts =
          scratch(static_cast<std::size_t>(most) * size_of(in.dtype) * static_cast<std::size_t>(size()));
      exchange(
          "reduce_scatter",
          [&](int r) {
            return Range{element(in, r * whole + first), bytes};
          },
          [&](int r) {
            return Range{parts + static_cast<std::size_t>(r) * bytes, bytes};
          });
      cuda::combine_in_order(stream_, cuda::Combine::kSum, in.dtype, {parts, size(), n}, element(out, first));
    }
  });
}

// Every rank receives all ranks' versions of its slice, combines them, and sends the result to all.
void NcclCommunicator::reduce_slices(Tensor inout, ReduceOp op, std::int64_t first, std::int64_t n) {
  const auto slice = [&](int r) {
    const std::int64_t begin = slice_begin(n, r, size()), end = slice_begin(n, r + 1, size());
    return Range{element(inout, first + begin), static_cast<std::size_t>(end - begin) * size_of(inout.dtype)};
  };
  const Range own = slice(rank());
  const std::int64_t elements = static_cast<std::int64_t>(own.bytes / size_of(inout.dtype));
  std::byte* const parts = scratch(std::max(own.bytes * static_cast<std::size_t>(size()), std::size_t{1}));
  exchange("all_reduce", slice, [&](int r) {
    return Range{parts + static_cast<std::size_t>(r) * own.bytes, own.bytes};
  });
  cuda::combine_in_order(stream_, combine_of(op), inout.dtype, {parts, size(), elements}, own.data);
  exchange(
      "all_reduce", [&](int) { return own; },
      [&](int r) {
        return r == rank() ? Range{own.data, 0} : slice(r);
      });  // its own is where it belongs
}

Work NcclCommunicator::do_all_reduce(Tensor inout, ReduceOp op) {
  if (inout.device == Device::kCpu) return hosts_.all_reduce(inout, op);
  return run("all_reduce", [&] {
    const std::int64_t most = piece_elements(inout.dtype) * size();
    for (std::int64_t first = 0; first < inout.numel(); first += most)
      reduce_slices(inout, op, first, std::min(most, inout.numel() - first));
  });
}

// NCCL knows an input that is this rank's part of the output by its address: here it is so in place only.
Work NcclCommunicator::do_all_gather(Tensor in, Tensor out, Placement placement) {
  if (in.device == Device::kCpu)
    return placement == Placement::kInPlace ? hosts_.all_gather_in_place(out) : hosts_.all_gather(in, out);
  if (size() == 1) return copy_to_self(in, out);
  return run("all_gather", [&] {
    if (in.bytes() == 0) return;
    check(ncclAllGather(in.data, out.data, in.bytes(), ncclUint8, comm_, native(stream_)), "all_gather");
  });
}

Work NcclCommunicator::do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                                       std::span<const std::int64_t> recv_rows) {
  if (in.device == Device::kCpu) return hosts_.all_to_all_v(in, send_rows, out, recv_rows);
  if (size() == 1) return copy_to_self(in, out);
  const std::size_t row = row_bytes(in);
  const auto part = [row](const Tensor& tensor, std::span<const std::int64_t> rows) {
    return [=, begins = begins_of(rows)](int r) {
      const auto at = static_cast<std::size_t>(r);
      return Range{static_cast<std::byte*>(tensor.data) + static_cast<std::size_t>(begins[at]) * row,
                   static_cast<std::size_t>(begins[at + 1] - begins[at]) * row};
    };
  };
  return run("all_to_all_v", [&] { exchange("all_to_all_v", part(in, send_rows), part(out, recv_rows)); });
}

Work NcclCommunicator::do_broadcast(Tensor inout, int root) {
  if (inout.device == Device::kCpu) return hosts_.broadcast(inout, root);
  return run("broadcast", [&] {
    if (inout.bytes() == 0) return;
    check(ncclBroadcast(inout.data, inout.data, inout.bytes(), ncclUint8, root, comm_, native(stream_)),
          "broadcast");
  });
}

Work NcclCommunicator::do_send(Tensor in, int peer) {
  if (in.device == Device::kCpu) return hosts_.send(in, peer);
  if (in.bytes() == 0) return {};
  return defer("send", {"send to", peer},
               [&] { return ncclSend(in.data, in.bytes(), ncclUint8, peer, comm_, native(stream_)); });
}

Work NcclCommunicator::do_recv(Tensor out, int peer) {
  if (out.device == Device::kCpu) return hosts_.recv(out, peer);
  if (out.bytes() == 0) return {};
  return defer("recv", {"recv from", peer},
               [&] { return ncclRecv(out.data, out.bytes(), ncclUint8, peer, comm_, native(stream_)); });
}

void NcclCommunicator::do_barrier() {
  flush();
  stream_.synchronise();
  check_health("barrier");
  hosts_.barrier();
}

std::unique_ptr<Communicator> NcclCommunicator::do_split(std::span<const int> members, int,
                                                         std::string name) {
  std::unique_ptr<Communicator> hosts = hosts_.split(members, std::move(name));
  Communicator& over = *hosts;
  return std::make_unique<NcclCommunicator>(over, std::move(hosts), compute_, most_scratch_);
}

}  // namespace jevons::nccl
