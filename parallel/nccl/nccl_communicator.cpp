#include "parallel/nccl/nccl_communicator.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <functional>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/ordered_sum.h"
#include "parallel/host_exchange.h"

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

cudaStream_t native(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

constexpr const char* kConnection = "first exchange";

Tensor bytes_at(std::byte* data, std::size_t bytes) {
  return {data, {static_cast<std::int64_t>(bytes)}, DType::kU8, Device::kCuda};
}

// NCCL moves 16 bytes at a time between addresses that are multiples of 16, else single bytes; so what every
// rank gets of a sum begins on as many elements as make such an address in any type.
constexpr std::int64_t kAlignedElements = 64;

std::int64_t aligned(std::int64_t elements) {
  return (elements + kAlignedElements - 1) / kAlignedElements * kAlignedElements;
}

// First row that belongs to each rank, and the end.
std::vector<std::int64_t> begins_of(std::span<const std::int64_t> rows) {
  std::vector<std::int64_t> begins{0};
  for (std::int64_t n : rows) begins.push_back(begins.back() + n);
  return begins;
}

}  // namespace

NcclCommunicator::NcclCommunicator(Communicator& hosts, Stream& compute, std::size_t scratch_bytes)
    : Communicator(hosts.rank(), hosts.size(), hosts.name()),
      hosts_(hosts),
      compute_(compute),
      stream_(size() > 1 ? Device::kCuda : Device::kCpu, StreamPriority::kHighest),
      ready_(size() > 1 ? Device::kCuda : Device::kCpu),
      most_scratch_(scratch_bytes),
      links_(std::make_shared<LiveLinks>(compute)),
      link_(links_->add(place())),
      scratch_(size() > 1 ? Device::kCuda : Device::kCpu, "sums of NCCL", &stream_) {
  start();  // without connections: what devices exchange goes over the groups that are split off
}

NcclCommunicator::NcclCommunicator(std::unique_ptr<Communicator> hosts, const NcclCommunicator& parent)
    : Communicator(hosts->rank(), hosts->size(), hosts->name()),
      owned_hosts_(std::move(hosts)),
      hosts_(*owned_hosts_),
      compute_(parent.compute_),
      stream_(size() > 1 ? Device::kCuda : Device::kCpu, StreamPriority::kHighest),
      ready_(size() > 1 ? Device::kCuda : Device::kCpu),
      most_scratch_(parent.most_scratch_),
      links_(parent.links_),
      link_(links_->add(place())),
      scratch_(size() > 1 ? Device::kCuda : Device::kCpu, "sums of NCCL", &stream_) {
  start();
  connect();
}

NcclCommunicator::~NcclCommunicator() {
  links_->remove(link_);
}

void NcclCommunicator::abort(int exit_code) {
  hosts_.abort(exit_code);
  std::abort();  // unreached, which the compiler does not see through a virtual call
}

void NcclCommunicator::start() {
  if (size() == 1) return;
  stream_.set_links(links_.get());
  ncclUniqueId id{};
  if (rank() == 0) check(ncclGetUniqueId(&id), "start");
  id = jevons::broadcast(hosts_, id);
  const CollectiveScope scope(hosts_.whereabouts(), starting());
  check(ncclCommInitRank(&link_.comm, size(), id, rank()), "start");
}

// NCCL connects two ranks at the first message between them, and that is what hangs if the network is not as
// it takes it to be. So it is done here, and what arrives is looked at.
void NcclCommunicator::connect() {
  if (size() == 1) return;
  const CollectiveScope scope(hosts_.whereabouts(), starting());
  const std::int64_t ranks = size();
  const Buffer memory(Device::kCuda, static_cast<std::size_t>(6 * ranks) * sizeof(std::int64_t));
  const Tensor messages = memory.view(0, {3 * ranks, 2}, DType::kI64);  // sent, received, gathered
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(6 * ranks));
  const Tensor on_host{numbers.data(), messages.shape, DType::kI64, Device::kCpu};
  for (std::int64_t r = 0; r < ranks; ++r) {
    on_host.ptr<std::int64_t>()[2 * r] = rank();
    on_host.ptr<std::int64_t>()[2 * r + 1] = r;
  }
  const auto message = [&](std::int64_t i) { return elements(messages, 2 * i, 2); };

  copy_and_wait(&stream_, messages, on_host);
  begin(kConnection);
  exchange(kConnection, message, [&](int r) { return message(ranks + r); });
  check(ncclAllGather(message(0).data, message(2 * ranks).data, 16, ncclUint8, link_.comm, native(stream_)),
        kConnection);
  copy_and_wait(&stream_, on_host, messages);
  const auto expect = [&](std::int64_t row, std::int64_t from, std::int64_t to) {
    const std::int64_t* got = on_host.ptr<std::int64_t>() + 2 * row;
    if (got[0] != from || got[1] != to)
      links_->fail(
          fmt::format("{} {}: NCCL brings wrong bytes from rank {}", kConnection, link_.place, from));
  };
  for (std::int64_t r = 0; r < ranks; ++r) {
    expect(ranks + r, r, rank());
    expect(2 * ranks + r, r, 0);
  }
}

std::string NcclCommunicator::place() const {
  return fmt::format("over {}, rank {} of {}", name(), rank(), size());
}

CollectiveCall NcclCommunicator::starting() const {
  return {.name = "NCCL start", .over = name(), .number = links_->started(), .connects = true};
}

NcclCommunicator::Range NcclCommunicator::elements(const Tensor& tensor, std::int64_t first, std::int64_t n) {
  const std::size_t size = size_of(tensor.dtype);
  return {static_cast<std::byte*>(tensor.data) + static_cast<std::size_t>(first) * size,
          static_cast<std::size_t>(n) * size};
}

void NcclCommunicator::check(ncclResult_t result, const char* collective,
                             std::span<const Transfer> transfers) const {
  if (result == ncclSuccess) return;
  std::string peers;
  for (const Transfer& t : transfers) peers += fmt::format(", {} rank {}", t.direction, t.peer);
  links_->fail(fmt::format("{} {}{}: {}", collective, link_.place, peers, words_for(result, link_.comm)));
}

void NcclCommunicator::begin(const char* collective) {
  if (link_.comm == nullptr)
    jevons::fail(ExitCode::kFailure, "{} {}: NCCL has been ended", collective, link_.place);
  links_->check();
  link_.last = collective;
}

// A group of NCCL's calls, which start together. It is closed whatever happens: NCCL keeps an open one for
// the thread, whose later calls would all fall into it.
class NcclCommunicator::Group {
 public:
  Group(const NcclCommunicator& over, const char* collective) : over_(over), collective_(collective) {
    over_.check(ncclGroupStart(), collective_);
  }
  ~Group() {
    if (open_) ncclGroupEnd();
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  void add(Transfer transfer, ncclResult_t result) {
    transfers_.push_back(transfer);
    if (result == ncclSuccess) return;
    open_ = false;
    ncclGroupEnd();
    over_.check(result, collective_, {&transfer, 1});
  }
  // An error that is told here only is that of any transfer, so they are named if they are few.
  void end() {
    constexpr std::size_t kFew = 4;
    open_ = false;
    if (transfers_.size() > kFew) transfers_.clear();
    over_.check(ncclGroupEnd(), collective_, transfers_);
  }

 private:
  const NcclCommunicator& over_;
  const char* collective_;
  std::vector<Transfer> transfers_;
  bool open_ = true;
};

// The whole of a collective over one rank.
Work NcclCommunicator::copy_to_self(const Tensor& in, const Tensor& out) {
  copy_async(&compute_, out, in);
  return {};
}

template <class Enqueue>
Work NcclCommunicator::run(const char* collective, Enqueue enqueue) {
  flush();
  begin(collective);
  compute_.record(ready_);
  stream_.wait(ready_);
  enqueue();
  return Work(std::make_unique<DevicePending>(compute_, stream_, nullptr));
}

Work NcclCommunicator::defer(Deferred deferred) {
  deferred_.push_back(std::move(deferred));
  return Work(std::make_unique<DevicePending>(compute_, stream_, [this] { flush(); }));
}

void NcclCommunicator::flush() {
  if (deferred_.empty()) return;
  const std::vector<Deferred> started = std::exchange(deferred_, {});
  begin("send or recv");
  compute_.record(ready_);
  stream_.wait(ready_);
  Group group(*this, "send or recv");
  for (const Deferred& one : started) group.add(one.transfer, one.call());
  group.end();
}

template <class To, class From>
void NcclCommunicator::exchange(const char* collective, To to, From from) {
  Group group(*this, collective);
  for (int r = 0; r < size(); ++r) {
    const Range out = to(r), in = from(r);
    if (r == rank()) {
      if (in.bytes > 0) copy_async(&stream_, bytes_at(in.data, in.bytes), bytes_at(out.data, out.bytes));
      continue;
    }
    if (out.bytes > 0) {
      group.add({"send to", r}, ncclSend(out.data, out.bytes, ncclUint8, r, link_.comm, native(stream_)));
    }
    if (in.bytes > 0) {
      group.add({"recv from", r}, ncclRecv(in.data, in.bytes, ncclUint8, r, link_.comm, native(stream_)));
    }
  }
  group.end();
}

std::int64_t NcclCommunicator::piece_elements(DType dtype) const {
  const std::size_t elements = most_scratch_ / size_of(dtype) / static_cast<std::size_t>(size());
  const std::int64_t whole = static_cast<std::int64_t>(elements) / kAlignedElements * kAlignedElements;
  return std::max(whole, kAlignedElements);
}

// A part of `elements` for every rank, one after another.
Tensor NcclCommunicator::scratch(std::int64_t elements, DType dtype) {
  scratch_.reset();
  return scratch_.alloc({elements * size()}, dtype);
}

// In place is as good as apart: all parts are copied before the sum is written.
Work NcclCommunicator::do_reduce_scatter(Tensor in, Tensor out, Placement placement) {
  if (in.device == Device::kCpu) {
    return placement == Placement::kInPlace ? hosts_.reduce_scatter_in_place(in)
                                            : hosts_.reduce_scatter(in, out);
  }
  if (size() == 1) return copy_to_self(in, out);
  return run("reduce_scatter", [&] {
    const std::int64_t whole = out.numel(), most = std::min(piece_elements(in.dtype), aligned(whole));
    for (std::int64_t first = 0; first < whole; first += most) {
      const std::int64_t n = std::min(most, whole - first);
      const Tensor parts = scratch(most, in.dtype);
      exchange(
          "reduce_scatter", [&](int r) { return elements(in, r * whole + first, n); },
          [&](int r) { return elements(parts, r * most, n); });
      reduce_in_rank_order(stream_, ReduceOp::kSum, in.dtype, {parts.data, size(), n, most},
                           elements(out, first, n).data);
    }
  });
}

// Every rank receives all ranks' versions of its slice, combines them, and sends the result to all.
void NcclCommunicator::reduce_slices(Tensor inout, ReduceOp op, std::int64_t first, std::int64_t n) {
  const std::int64_t width = aligned((n + size() - 1) / size());
  const auto begin_of = [&](int r) { return std::min(n, r * width); };
  const auto slice = [&](int r) {
    return elements(inout, first + begin_of(r), begin_of(r + 1) - begin_of(r));
  };
  const Range own = slice(rank());
  const std::int64_t own_elements = begin_of(rank() + 1) - begin_of(rank());
  const Tensor parts = scratch(width, inout.dtype);
  exchange("all_reduce", slice, [&](int r) { return elements(parts, r * width, own_elements); });
  reduce_in_rank_order(stream_, op, inout.dtype, {parts.data, size(), own_elements, width}, own.data);
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
    check(ncclAllGather(in.data, out.data, in.bytes(), ncclUint8, link_.comm, native(stream_)), "all_gather");
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
    check(ncclBroadcast(inout.data, inout.data, inout.bytes(), ncclUint8, root, link_.comm, native(stream_)),
          "broadcast");
  });
}

Work NcclCommunicator::do_send(Tensor in, int peer) {
  if (in.device == Device::kCpu) return hosts_.send(in, peer);
  if (in.bytes() == 0) return {};
  return defer({{"send to", peer}, [this, in, peer] {
                  return ncclSend(in.data, in.bytes(), ncclUint8, peer, link_.comm, native(stream_));
                }});
}

Work NcclCommunicator::do_recv(Tensor out, int peer) {
  if (out.device == Device::kCpu) return hosts_.recv(out, peer);
  if (out.bytes() == 0) return {};
  return defer({{"recv from", peer}, [this, out, peer] {
                  return ncclRecv(out.data, out.bytes(), ncclUint8, peer, link_.comm, native(stream_));
                }});
}

void NcclCommunicator::do_barrier() {
  flush();
  stream_.synchronise();
  links_->check();
  hosts_.barrier();
}

std::unique_ptr<Communicator> NcclCommunicator::do_split(std::span<const int> members, int,
                                                         std::string name) {
  return std::unique_ptr<Communicator>(new NcclCommunicator(hosts_.split(members, std::move(name)), *this));
}

}  // namespace jevons::nccl
