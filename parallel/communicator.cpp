#include "parallel/communicator.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/profile_range.h"

namespace jevons {

Work& Work::operator=(Work&& other) {
  wait();
  pending_ = std::move(other.pending_);
  whereabouts_ = other.whereabouts_, call_ = other.call_;
  return *this;
}

Work::~Work() {
  try {
    wait();
  } catch (const std::exception& error) {
    log_error("a collective that nobody waited for failed: {}", error.what());
  } catch (...) {
    log_error("a collective that nobody waited for was cut off");
  }
}

void Work::wait() {
  if (pending_ == nullptr) return;
  const std::unique_ptr<Pending> pending = std::move(pending_);
  const CollectiveScope scope(whereabouts_, call_);
  pending->wait();
}

std::size_t row_bytes(const Tensor& tensor) {
  std::int64_t elements = 1;
  for (int dim = 1; dim < tensor.shape.ndim(); ++dim) elements *= tensor.shape[dim];
  return static_cast<std::size_t>(elements) * size_of(tensor.dtype);
}

namespace {

// The whole of a collective over one rank, unless it is work of a stream: then the back end's.
Work copy_to_self(const Tensor& in, const Tensor& out) {
  if (in.device == Device::kMeta || in.numel() == 0) return {};
  std::memcpy(out.data, in.data, in.bytes());
  return {};
}

std::int64_t sum_of(std::span<const std::int64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

}  // namespace

void Communicator::check_tensors(const char* collective, const Tensor& in, const Tensor& out) const {
  ENSURE(in.defined() && out.defined(), "{} over {}, rank {}: undefined tensor", collective, name_, rank_);
  ENSURE(in.dtype == out.dtype && in.device == out.device,
         "{} over {}, rank {}: {} and {} differ in type or device", collective, name_, rank_, in.to_string(),
         out.to_string());
}

// Libraries take some overlaps for "in place", and what follows from others is left to chance.
void Communicator::check_apart(const char* collective, const Tensor& in, const Tensor& out) const {
  if (in.device == Device::kMeta || in.numel() == 0 || out.numel() == 0) return;
  const auto a = reinterpret_cast<std::uintptr_t>(in.data), b = reinterpret_cast<std::uintptr_t>(out.data);
  ENSURE(a + in.bytes() <= b || b + out.bytes() <= a,
         "{} over {}, rank {}: input {} and output {} overlap in memory", collective, name_, rank_,
         in.to_string(), out.to_string());
}

void Communicator::check_reducible(const char* collective, const Tensor& tensor) const {
  ENSURE(tensor.dtype != DType::kU8, "{} over {}, rank {}: cannot sum {}", collective, name_, rank_,
         tensor.to_string());
}

void Communicator::check_peer(const char* collective, int peer) const {
  ENSURE(peer >= 0 && peer < size_ && peer != rank_, "{} over {}, rank {} of {}: no such peer {}", collective,
         name_, rank_, size_, peer);
}

Tensor Communicator::own_part(const char* collective, const Tensor& whole) const {
  ENSURE(whole.defined() && whole.numel() % size_ == 0,
         "{} in place over {}, rank {}: {} is not {} equal parts", collective, name_, rank_,
         whole.to_string(), size_);
  const std::int64_t part = whole.numel() / size_;
  return whole.reshape({whole.numel()}).slice(rank_ * part, (rank_ + 1) * part);
}

void Communicator::count_wire(const char* collective, double bytes) {
  if (listener_ == nullptr) return;
  listener_->on({.kind = WorkKind::kWire, .op = collective, .group = name_, .ranks = size_, .bytes = bytes});
}

template <class Start>
Work Communicator::follow(const char* name, std::int64_t number, int peer, Start start) {
  const CollectiveCall call{.name = name, .over = name_, .number = number, .peer = peer};
  const CollectiveScope scope(whereabouts_, call);
  const ProfileRange range(name);
  Work work = start();
  work.whereabouts_ = whereabouts_, work.call_ = call;
  return work;
}

Work Communicator::all_reduce(Tensor inout, ReduceOp op) {
  check_tensors("all_reduce", inout, inout);
  check_reducible("all_reduce", inout);
  if (size_ == 1) return {};
  count_wire("all_reduce", 2.0 * (size_ - 1) / size_ * static_cast<double>(inout.bytes()));
  return follow("all_reduce", ++collectives_, -1, [&] { return do_all_reduce(inout, op); });
}

Work Communicator::all_gather(Tensor in, Tensor out) {
  check_tensors("all_gather", in, out);
  ENSURE(out.numel() == size_ * in.numel(), "all_gather over {}, rank {}: {} is not {} times {}", name_,
         rank_, out.to_string(), size_, in.to_string());
  check_apart("all_gather", in, out);
  if (size_ == 1 && in.device != Device::kCuda) return copy_to_self(in, out);
  count_wire("all_gather", (size_ - 1.0) * static_cast<double>(in.bytes()));
  return follow("all_gather", ++collectives_, -1, [&] { return do_all_gather(in, out, Placement::kApart); });
}

Work Communicator::all_gather_in_place(Tensor inout) {
  const Tensor own = own_part("all_gather", inout);
  if (size_ == 1) return {};
  count_wire("all_gather", (size_ - 1.0) * static_cast<double>(own.bytes()));
  return follow("all_gather", ++collectives_, -1,
                [&] { return do_all_gather(own, inout, Placement::kInPlace); });
}

Work Communicator::reduce_scatter(Tensor in, Tensor out) {
  check_tensors("reduce_scatter", in, out);
  check_reducible("reduce_scatter", in);
  ENSURE(in.numel() == size_ * out.numel(), "reduce_scatter over {}, rank {}: {} is not {} times {}", name_,
         rank_, in.to_string(), size_, out.to_string());
  check_apart("reduce_scatter", in, out);
  if (size_ == 1 && in.device != Device::kCuda) return copy_to_self(in, out);
  count_wire("reduce_scatter", (size_ - 1.0) * static_cast<double>(out.bytes()));
  return follow("reduce_scatter", ++collectives_, -1,
                [&] { return do_reduce_scatter(in, out, Placement::kApart); });
}

Work Communicator::reduce_scatter_in_place(Tensor inout) {
  check_reducible("reduce_scatter", inout);
  const Tensor own = own_part("reduce_scatter", inout);
  if (size_ == 1) return {};
  count_wire("reduce_scatter", (size_ - 1.0) * static_cast<double>(own.bytes()));
  return follow("reduce_scatter", ++collectives_, -1,
                [&] { return do_reduce_scatter(inout, own, Placement::kInPlace); });
}

Work Communicator::all_to_all(Tensor in, Tensor out) {
  check_tensors("all_to_all", in, out);
  ENSURE(in.numel() == out.numel() && in.numel() % size_ == 0,
         "all_to_all over {}, rank {}: {} to {} is not {} equal parts", name_, rank_, in.to_string(),
         out.to_string(), size_);
  check_apart("all_to_all", in, out);
  const Shape parts{size_, in.numel() / size_};
  const std::vector<std::int64_t> one_row(static_cast<std::size_t>(size_), 1);
  return all_to_all_v(in.reshape(parts), one_row, out.reshape(parts), one_row);
}

Work Communicator::all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                                std::span<const std::int64_t> recv_rows) {
  check_tensors("all_to_all_v", in, out);
  const auto ranks = static_cast<std::size_t>(size_);
  ENSURE(send_rows.size() == ranks && recv_rows.size() == ranks,
         "all_to_all_v over {}, rank {}: {} and {} counts for {} ranks", name_, rank_, send_rows.size(),
         recv_rows.size(), size_);
  ENSURE(std::ranges::all_of(send_rows, [](std::int64_t n) { return n >= 0; }) &&
             std::ranges::all_of(recv_rows, [](std::int64_t n) { return n >= 0; }),
         "all_to_all_v over {}, rank {}: negative count", name_, rank_);
  ENSURE(row_bytes(in) == row_bytes(out), "all_to_all_v over {}, rank {}: rows of {} and {} differ", name_,
         rank_, in.to_string(), out.to_string());
  ENSURE(sum_of(send_rows) == in.shape[0] && sum_of(recv_rows) == out.shape[0],
         "all_to_all_v over {}, rank {}: counts add to {} and {} rows, tensors are {} and {}", name_, rank_,
         sum_of(send_rows), sum_of(recv_rows), in.to_string(), out.to_string());
  const auto self = static_cast<std::size_t>(rank_);
  ENSURE(send_rows[self] == recv_rows[self],
         "all_to_all_v over {}, rank {}: sends itself {} rows, receives {}", name_, rank_, send_rows[self],
         recv_rows[self]);
  check_apart("all_to_all_v", in, out);
  if (size_ == 1 && in.device != Device::kCuda) return copy_to_self(in, out);
  count_wire("all_to_all_v",
             static_cast<double>(in.shape[0] - send_rows[self]) * static_cast<double>(row_bytes(in)));
  return follow("all_to_all_v", ++collectives_, -1,
                [&] { return do_all_to_all_v(in, send_rows, out, recv_rows); });
}

Work Communicator::broadcast(Tensor inout, int root) {
  check_tensors("broadcast", inout, inout);
  ENSURE(root >= 0 && root < size_, "broadcast over {}, rank {}: no rank {}", name_, rank_, root);
  if (size_ == 1) return {};
  if (rank_ == root) count_wire("broadcast", (size_ - 1.0) * static_cast<double>(inout.bytes()));
  return follow("broadcast", ++collectives_, root, [&] { return do_broadcast(inout, root); });
}

Work Communicator::send(Tensor in, int peer) {
  check_tensors("send", in, in);
  check_peer("send", peer);
  count_wire("send", static_cast<double>(in.bytes()));
  return follow("send", ++messages_, peer, [&] { return do_send(in, peer); });
}

Work Communicator::recv(Tensor out, int peer) {
  check_tensors("recv", out, out);
  check_peer("recv", peer);
  return follow("recv", ++messages_, peer, [&] { return do_recv(out, peer); });
}

void Communicator::barrier() {
  if (size_ == 1) return;
  follow("barrier", ++collectives_, -1, [&] {
    do_barrier();
    return Work();
  }).wait();
}

std::unique_ptr<Communicator> Communicator::split(std::span<const int> members, std::string name) {
  std::vector<int> sorted(members.begin(), members.end());
  std::ranges::sort(sorted);
  ENSURE(!sorted.empty() && sorted.front() >= 0 && sorted.back() < size_ &&
             std::ranges::adjacent_find(sorted) == sorted.end(),
         "split of {} into {}: members must be distinct ranks below {}", name_, name, size_);
  const auto self = std::ranges::find(members, rank_);
  ENSURE(self != members.end(), "split of {} into {}: rank {} is not a member", name_, name, rank_);
  auto child = do_split(members, static_cast<int>(self - members.begin()), std::move(name));
  child->set_listener(listener_);
  child->set_whereabouts(whereabouts_);
  return child;
}

}  // namespace jevons
