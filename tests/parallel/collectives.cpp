#include "tests/parallel/collectives.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <type_traits>
#include <vector>

#include "kernels/core/error.h"

namespace jevons::test {

namespace {

// The last is more than one piece of the MPI back end's shared memory, and does not divide evenly.
constexpr std::int64_t kSizes[] = {0, 1, 7, 1000, 30001, 300007};

template <class T>
Tensor view(std::vector<T>& values, Shape shape) {
  return {values.data(), shape, dtype_of<T>::value, Device::kCpu};
}
template <class T>
Tensor view(std::vector<T>& values) {
  return view(values, {static_cast<std::int64_t>(values.size())});
}

// Element i of rank's input: all bits of the mantissa in use, so that sums in another order differ.
template <class T>
T value_of(int rank, std::int64_t i) {
  const auto word =
      static_cast<std::uint32_t>(i) * 2654435761u + static_cast<std::uint32_t>(rank + 1) * 0x9e3779b9u;
  const std::uint32_t mixed = (word ^ (word >> 15)) * 0x85ebca6bu;
  const auto integer = static_cast<std::int32_t>(mixed >> 8) - (1 << 23);
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(integer);
  } else if constexpr (std::is_same_v<T, bf16>) {
    return bf16(static_cast<float>(integer) * 1e-5f);
  } else {
    return static_cast<T>(integer) * static_cast<T>(1e-5) + static_cast<T>(rank) / 3;
  }
}

template <class T>
std::vector<T> input_of(int rank, std::int64_t n, std::int64_t first = 0) {
  std::vector<T> values(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = value_of<T>(rank, first + i);
  return values;
}

template <class T>
T expected_reduction(ReduceOp op, int ranks, std::int64_t i) {
  using Sum = std::conditional_t<std::is_same_v<T, bf16>, float, T>;
  auto sum = static_cast<Sum>(value_of<T>(0, i));
  for (int r = 1; r < ranks; ++r) {
    const auto next = static_cast<Sum>(value_of<T>(r, i));
    if (op == ReduceOp::kSum) sum += next;
    if (op == ReduceOp::kMax) sum = std::max(sum, next);
    if (op == ReduceOp::kMin) sum = std::min(sum, next);
  }
  return static_cast<T>(sum);
}

template <class T>
void expect_equal(const Communicator& world, const char* what, std::int64_t i, const T& got,
                  const T& wanted) {
  ENSURE(std::memcmp(&got, &wanted, sizeof(T)) == 0, "{} of {} over {} ranks: element {} differs on rank {}",
         what, name_of(dtype_of<T>::value), world.size(), i, world.rank());
}

template <class T>
void check_reductions_of(Communicator& world) {
  for (std::int64_t n : kSizes) {
    for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
      std::vector<T> values = input_of<T>(world.rank(), n);
      world.all_reduce(view(values), op).wait();
      for (std::int64_t i = 0; i < n; ++i) {
        expect_equal(world, "all_reduce", i, values[static_cast<std::size_t>(i)],
                     expected_reduction<T>(op, world.size(), i));
      }
    }
    std::vector<T> parts = input_of<T>(world.rank(), n * world.size());
    std::vector<T> apart(static_cast<std::size_t>(n));
    const Tensor whole = view(parts), inside = whole.slice(world.rank() * n, (world.rank() + 1) * n);
    world.reduce_scatter(whole, view(apart)).wait();
    world.reduce_scatter_in_place(whole).wait();
    for (std::int64_t i = 0; i < n; ++i) {
      const T wanted = expected_reduction<T>(ReduceOp::kSum, world.size(), world.rank() * n + i);
      expect_equal(world, "reduce_scatter", i, apart[static_cast<std::size_t>(i)], wanted);
      expect_equal(world, "reduce_scatter in place", i, inside.ptr<T>()[i], wanted);
    }
  }
}

template <class T>
void check_gathers_of(Communicator& world) {
  for (std::int64_t n : kSizes) {
    std::vector<T> mine = input_of<T>(world.rank(), n);
    std::vector<T> apart(static_cast<std::size_t>(n * world.size())), inside = apart;
    std::ranges::copy(mine, inside.begin() + world.rank() * n);
    world.all_gather(view(mine), view(apart)).wait();
    world.all_gather_in_place(view(inside)).wait();
    for (std::int64_t i = 0; i < n * world.size(); ++i) {
      const T wanted = value_of<T>(static_cast<int>(i / n), i % n);
      expect_equal(world, "all_gather", i, apart[static_cast<std::size_t>(i)], wanted);
      expect_equal(world, "all_gather in place", i, inside[static_cast<std::size_t>(i)], wanted);
    }
    for (int root = 0; root < world.size(); ++root) {
      std::vector<T> values = input_of<T>(world.rank(), n);
      world.broadcast(view(values), root).wait();
      for (std::int64_t i = 0; i < n; ++i) {
        expect_equal(world, "broadcast", i, values[static_cast<std::size_t>(i)], value_of<T>(root, i));
      }
    }
  }
}

// Rows that rank `from` sends to rank `to`: some none, some of them many.
std::int64_t rows_between(int from, int to) {
  return (from * 3 + to * 5) % 4 == 0 ? 0 : (from + 2 * to) * 37 % 100;
}

template <class T>
void check_all_to_all_v(Communicator& world, std::int64_t cols) {
  std::vector<std::int64_t> send_rows, recv_rows;
  for (int r = 0; r < world.size(); ++r) {
    send_rows.push_back(rows_between(world.rank(), r));
    recv_rows.push_back(rows_between(r, world.rank()));
  }
  const std::int64_t sent = std::accumulate(send_rows.begin(), send_rows.end(), std::int64_t{0});
  const std::int64_t received = std::accumulate(recv_rows.begin(), recv_rows.end(), std::int64_t{0});
  std::vector<T> in = input_of<T>(world.rank(), sent * cols);
  std::vector<T> out(static_cast<std::size_t>(received * cols));
  world.all_to_all_v(view(in, {sent, cols}), send_rows, view(out, {received, cols}), recv_rows).wait();
  std::int64_t at = 0;
  for (int from = 0; from < world.size(); ++from) {
    std::int64_t first = 0;
    for (int to = 0; to < world.rank(); ++to) first += rows_between(from, to) * cols;
    for (std::int64_t i = 0; i < recv_rows[static_cast<std::size_t>(from)] * cols; ++i, ++at) {
      expect_equal(world, "all_to_all_v", at, out[static_cast<std::size_t>(at)],
                   value_of<T>(from, first + i));
    }
  }
}

template <class T>
void check_exchanges_of(Communicator& world) {
  for (std::int64_t n : kSizes) {
    std::vector<T> in = input_of<T>(world.rank(), n * world.size()), out(in.size());
    world.all_to_all(view(in), view(out)).wait();
    for (std::int64_t i = 0; i < n * world.size(); ++i) {
      expect_equal(world, "all_to_all", i, out[static_cast<std::size_t>(i)],
                   value_of<T>(static_cast<int>(i / n), world.rank() * n + i % n));
    }
  }
  for (std::int64_t cols : {1, 5, 64}) check_all_to_all_v<T>(world, cols);

  if (world.size() == 1) return;
  const int next = (world.rank() + 1) % world.size(),
            before = (world.rank() + world.size() - 1) % world.size();
  for (std::int64_t n : kSizes) {
    std::vector<T> mine = input_of<T>(world.rank(), n), theirs(mine.size());
    Work sent = world.send(view(mine), next);
    world.recv(view(theirs), before).wait();
    sent.wait();
    for (std::int64_t i = 0; i < n; ++i) {
      expect_equal(world, "recv", i, theirs[static_cast<std::size_t>(i)], value_of<T>(before, i));
    }
  }
}

// What crosses in one exchange: rows that rank `from` sends to rank `to`.
using Crossing = std::function<std::int64_t(int from, int to)>;

// An exchange in which the tensors without rows have one address, or none: an allocator may give them such.
void check_crossing(Communicator& world, const Crossing& rows) {
  const int ranks = world.size(), self = world.rank();
  std::vector<std::int64_t> send_rows, recv_rows;
  for (int r = 0; r < ranks; ++r) send_rows.push_back(rows(self, r)), recv_rows.push_back(rows(r, self));
  const std::int64_t sent = std::accumulate(send_rows.begin(), send_rows.end(), std::int64_t{0});
  const std::int64_t received = std::accumulate(recv_rows.begin(), recv_rows.end(), std::int64_t{0});
  constexpr std::int64_t kCols = 7;
  std::vector<float> in = input_of<float>(self, std::max<std::int64_t>(sent, 1) * kCols);
  std::vector<float> out(static_cast<std::size_t>(std::max<std::int64_t>(received, 1) * kCols));
  Tensor from = view(in).slice(0, sent * kCols), to = view(out).slice(0, received * kCols);
  from.shape = {sent, kCols}, to.shape = {received, kCols};
  for (const bool null : {false, true}) {
    if (sent == 0) from.data = null ? nullptr : to.data;
    if (received == 0) to.data = null ? nullptr : from.data;
    std::ranges::fill(out, -1.0f);
    world.all_to_all_v(from, send_rows, to, recv_rows).wait();
    std::int64_t at = 0;
    for (int r = 0; r < ranks; ++r) {
      std::int64_t first = 0;
      for (int before = 0; before < self; ++before) first += rows(r, before) * kCols;
      for (std::int64_t i = 0; i < rows(r, self) * kCols; ++i, ++at)
        expect_equal(world, "all_to_all_v", at, out[static_cast<std::size_t>(at)],
                     value_of<float>(r, first + i));
    }
  }
}

// `call` is refused on every rank, with a message that names collective, communicator and rank.
void expect_refused(const Communicator& world, const char* collective, const std::function<void()>& call) {
  const std::string words =
      fmt::format("{} over {}, rank {}: input ", collective, world.name(), world.rank());
  try {
    call();
  } catch (const Error& error) {
    const std::string_view what = error.what();
    ENSURE(what.find(words) != what.npos && what.find("overlap") != what.npos, "{} for {}", what, words);
    return;
  }
  fail(ExitCode::kFailure, "{}: an overlap was not refused", collective);
}

}  // namespace

void check_reductions(Communicator& world) {
  check_reductions_of<float>(world);
  check_reductions_of<bf16>(world);
  check_reductions_of<double>(world);
  check_reductions_of<std::int32_t>(world);
  check_reductions_of<std::int64_t>(world);
}

void check_gathers(Communicator& world) {
  check_gathers_of<float>(world);
  check_gathers_of<bf16>(world);
  check_gathers_of<double>(world);
  check_gathers_of<std::uint8_t>(world);
}

void check_exchanges(Communicator& world) {
  check_exchanges_of<float>(world);
  check_exchanges_of<bf16>(world);
  check_exchanges_of<std::int32_t>(world);
  check_exchanges_of<std::int64_t>(world);
  check_exchanges_of<std::uint8_t>(world);
}

void check_empty_parts(Communicator& world) {
  const int last = world.size() - 1;
  check_crossing(world, [](int, int) { return 0; });
  check_crossing(world, [](int from, int to) { return from == 0 && to == 0 ? 0 : 3; });
  for (const std::int64_t rows : {1, 5000}) {  // a short message and one that MPI sends in another way
    check_crossing(world, [=](int from, int) { return from == last ? 0 : rows; });  // nothing to send
    check_crossing(world, [=](int, int to) { return to == last ? 0 : rows; });      // nothing to receive
    check_crossing(world, [=](int from, int to) { return from == last || to == last ? 0 : rows; });
    check_crossing(world, [=](int, int to) { return to == 0 ? rows : 0; });          // all to one
    check_crossing(world, [=](int from, int) { return from == 0 ? rows : 0; });      // one to all
    check_crossing(world, [=](int from, int to) { return from == to ? rows : 0; });  // nothing crosses
    check_crossing(world, [=](int from, int to) { return from == 0 && to == last ? rows : 0; });
  }
  const Tensor nothing{nullptr, {0}, DType::kF32, Device::kCpu};
  world.all_reduce(nothing).wait();
  world.all_gather(nothing, nothing).wait();
  world.all_gather_in_place(nothing).wait();
  world.reduce_scatter(nothing, nothing).wait();
  world.reduce_scatter_in_place(nothing).wait();
  world.all_to_all(nothing, nothing).wait();
  world.broadcast(nothing, last).wait();
  if (last == 0) return;
  Work sent = world.send(nothing, (world.rank() + 1) % world.size());
  world.recv(nothing, (world.rank() + last) % world.size()).wait();
  sent.wait();
}

void check_overlaps(Communicator& world) {
  const std::int64_t n = 12 * world.size(), rank = world.rank();
  std::vector<float> values(static_cast<std::size_t>(2 * n), 1.0f);
  const Tensor all = view(values), whole = all.slice(0, n), own = whole.slice(12 * rank, 12 * (rank + 1));
  const Tensor shifted = all.slice(n - 1, 2 * n - 1);
  expect_refused(world, "all_gather", [&] { world.all_gather(own, whole).wait(); });
  expect_refused(world, "reduce_scatter", [&] { world.reduce_scatter(whole, own).wait(); });
  expect_refused(world, "all_to_all", [&] { world.all_to_all(whole, whole).wait(); });
  const std::vector<std::int64_t> rows(static_cast<std::size_t>(world.size()), 12);
  expect_refused(world, "all_to_all_v", [&] { world.all_to_all_v(whole, rows, shifted, rows).wait(); });
  expect_refused(world, "all_to_all_v", [&] { world.all_to_all_v(shifted, rows, whole, rows).wait(); });
  world.all_to_all_v(whole, rows, all.slice(n, 2 * n), rows).wait();  // side by side is well
  for (float v : values) ENSURE(v == 1, "{} for 1", v);
}

void check_split(Communicator& world) {
  WorkMeter meter;
  world.set_listener(&meter);
  // Even and odd ranks apart, ranked backwards.
  std::vector<int> members;
  for (int r = world.size() - 1; r >= 0; --r) {
    if (r % 2 == world.rank() % 2) members.push_back(r);
  }
  const std::unique_ptr<Communicator> half = world.split(members, "half");
  ENSURE(half->size() == static_cast<int>(members.size()) && half->name() == "half", "size {}", half->size());
  ENSURE(members[static_cast<std::size_t>(half->rank())] == world.rank(), "rank {}", half->rank());
  std::vector<std::int32_t> mine{world.rank()}, all(members.size());
  half->all_gather(view(mine), view(all)).wait();
  ENSURE(all == std::vector<std::int32_t>(members.begin(), members.end()),
         "ranks come in the order of members");
  ENSURE(meter[WorkKind::kWire].bytes == 4.0 * (half->size() - 1), "{} bytes", meter[WorkKind::kWire].bytes);

  // A group of a group, and two groups of the same ranks beside each other.
  std::vector<int> everyone(members.size());
  std::iota(everyone.begin(), everyone.end(), 0);
  const auto first = half->split(everyone, "same"), second = half->split(everyone, "same");
  std::vector<float> a{1}, b{2};
  first->all_reduce(view(a)).wait();
  second->all_reduce(view(b)).wait();
  first->barrier();
  ENSURE(a[0] == static_cast<float>(half->size()) && b[0] == 2 * a[0], "{} {}", a[0], b[0]);
  world.set_listener(nullptr);
  world.barrier();
}

void check_many_under_way(Communicator& world) {
  constexpr int kMany = 8;
  std::vector<std::vector<float>> in, out, sums;
  for (int k = 0; k < kMany; ++k) {
    in.push_back(input_of<float>(world.rank(), 100 * world.size(), k));
    out.emplace_back(in.back().size());
    sums.push_back(input_of<float>(world.rank(), 50 + k));
  }
  std::vector<Work> works;
  for (std::size_t k = 0; k < kMany; ++k) {
    works.push_back(world.all_to_all(view(in[k]), view(out[k])));
    works.push_back(world.all_reduce(view(sums[k])));
  }
  for (auto work = works.rbegin(); work != works.rend(); ++work) work->wait();
  for (std::size_t k = 0; k < kMany; ++k) {
    for (std::int64_t i = 0; i < 100 * world.size(); ++i) {
      expect_equal(world, "all_to_all", i, out[k][static_cast<std::size_t>(i)],
                   value_of<float>(static_cast<int>(i / 100),
                                   static_cast<std::int64_t>(k) + world.rank() * 100 + i % 100));
    }
    for (std::size_t i = 0; i < sums[k].size(); ++i) {
      expect_equal(world, "all_reduce", static_cast<std::int64_t>(i), sums[k][i],
                   expected_reduction<float>(ReduceOp::kSum, world.size(), static_cast<std::int64_t>(i)));
    }
  }
}

}  // namespace jevons::test
