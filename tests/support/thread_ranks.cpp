#include "tests/support/thread_ranks.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <list>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/ordered_sum.h"

namespace jevons::test {

namespace {

// Thrown in a rank that waits while another one has failed. Not an Error: a body must not take it for one.
struct Released {};

// What a rank asks for. Ranks of one collective must agree on all but the tensors' addresses and the counts.
struct Call {
  const char* collective = "";
  DType dtype = DType::kU8;
  std::int64_t numel = 0;  // of what must be equal on all ranks
  int option = 0;          // root or ReduceOp
  const void* in = nullptr;
  void* out = nullptr;
  std::span<const std::int64_t> send_rows = {}, recv_rows = {};

  bool agrees_with(const Call& other) const {
    return std::strcmp(collective, other.collective) == 0 && dtype == other.dtype && numel == other.numel &&
           option == other.option;
  }
  std::string to_string() const {
    return fmt::format("{} of {} {} (option {})", collective, numel, name_of(dtype), option);
  }
};

// What all ranks of a run share. One lock and one condition for everything: tests are small.
struct Team {
  std::mutex mutex;
  std::condition_variable changed;
  std::chrono::duration<double> timeout;
  std::exception_ptr failure;

  // Waits for ready(); throws Released if a rank fails meanwhile, or an Error with late()'s message when time
  // is up.
  template <class Ready, class Late>
  void wait(std::unique_lock<std::mutex>& lock, Ready ready, Late late) {
    const bool woken = changed.wait_for(lock, timeout, [&] { return ready() || failure != nullptr; });
    if (ready()) return;
    if (woken) throw Released{};
    failure = std::make_exception_ptr(Error(ExitCode::kFailure, late()));
    changed.notify_all();
    throw Released{};
  }
};

// The ranks of one communicator. Guarded by the team's mutex, but for `calls` after arrive().
class Group {
 public:
  Group(Team& team, std::vector<int> world_ranks, std::string name)
      : calls(world_ranks.size()),
        team_(team),
        name_(std::move(name)),
        world_ranks_(std::move(world_ranks)),
        present_(world_ranks_.size()),
        joined_(world_ranks_.size()) {}

  // Starts a collective: posts this rank's call and waits for those of all others. Until its last meet()
  // every rank may read `calls` and the buffers in them.
  void arrive(int rank, const Call& call) {
    std::unique_lock lock(team_.mutex);
    if (team_.failure != nullptr) throw Released{};
    calls[static_cast<std::size_t>(rank)] = call;
    present_[static_cast<std::size_t>(rank)] = true;
    const std::uint64_t turn = turn_;
    if (std::ranges::find(present_, false) == present_.end()) {
      check_calls();
      next_turn();
      return;
    }
    team_.wait(
        lock, [&] { return turn_ != turn; }, [&] { return who_is_missing(rank, call); });
  }

  // A later meeting of the same collective. Every rank of the group is certain to come, so nobody is released
  // early while another still reads its memory.
  void meet(int rank) {
    std::unique_lock lock(team_.mutex);
    present_[static_cast<std::size_t>(rank)] = true;
    const std::uint64_t turn = turn_;
    if (std::ranges::find(present_, false) == present_.end()) return next_turn();
    team_.changed.wait(lock, [&] { return turn_ != turn; });
  }

  void post(int from, int to, const Tensor& tensor) {
    const auto* bytes = static_cast<const std::byte*>(tensor.data);
    const std::lock_guard lock(team_.mutex);
    mail_[{from, to}].push_back({tensor.dtype, {bytes, bytes + tensor.bytes()}});
    team_.changed.notify_all();
  }

  void fetch(int from, int to, const Tensor& tensor) {
    std::unique_lock lock(team_.mutex);
    std::deque<Letter>& box = mail_[{from, to}];
    team_.wait(
        lock, [&] { return !box.empty(); },
        [&] {
          return fmt::format("recv over {}: rank {} waited {} s, but rank {} sent nothing", name_, to,
                             team_.timeout.count(), from);
        });
    const Letter& letter = box.front();
    ENSURE(letter.dtype == tensor.dtype && letter.bytes.size() == tensor.bytes(),
           "recv over {}: rank {} expects {}, but rank {} sent {} bytes of {}", name_, to, tensor.to_string(),
           from, letter.bytes.size(), name_of(letter.dtype));
    std::ranges::copy(letter.bytes, static_cast<std::byte*>(tensor.data));
    box.pop_front();
  }

  // The group of a split: the first member to come makes it, each member joins it once.
  std::shared_ptr<Group> join_child(std::span<const int> members, int new_rank, const std::string& name) {
    std::vector<int> world_ranks;
    for (int member : members) world_ranks.push_back(world_ranks_[static_cast<std::size_t>(member)]);
    const auto self = static_cast<std::size_t>(new_rank);
    const std::lock_guard lock(team_.mutex);
    auto child = std::ranges::find_if(children_, [&](const std::shared_ptr<Group>& group) {
      return group->name_ == name && group->world_ranks_ == world_ranks && !group->joined_[self];
    });
    if (child == children_.end()) {
      child = children_.insert(child, std::make_shared<Group>(team_, world_ranks, name));
    }
    const std::shared_ptr<Group> group = *child;
    group->joined_[self] = true;
    if (std::ranges::find(group->joined_, false) == group->joined_.end()) children_.erase(child);
    return group;
  }

  std::vector<Call> calls;  // by rank

 private:
  struct Letter {
    DType dtype;
    std::vector<std::byte> bytes;
  };
  void next_turn() {
    present_.assign(present_.size(), false);
    ++turn_;
    team_.changed.notify_all();
  }

  void check_calls() const {
    for (std::size_t a = 0; a < calls.size(); ++a) {
      if (!calls[a].agrees_with(calls[0])) {
        fail(ExitCode::kFailure, "mismatch over {}: rank 0 calls {}, rank {} calls {}", name_,
             calls[0].to_string(), a, calls[a].to_string());
      }
      for (std::size_t b = 0; b < calls[a].send_rows.size(); ++b) {
        const std::int64_t sent = calls[a].send_rows[b], expected = calls[b].recv_rows[a];
        if (sent != expected) {
          fail(ExitCode::kFailure,
               "mismatch over {}: in {} rank {} sends {} rows to rank {}, which expects {}", name_,
               calls[a].collective, a, sent, b, expected);
        }
      }
    }
  }

  std::string who_is_missing(int rank, const Call& call) const {
    std::vector<int> missing;
    for (std::size_t r = 0; r < present_.size(); ++r) {
      if (!present_[r]) missing.push_back(static_cast<int>(r));
    }
    return fmt::format("{} over {}: rank {} waited {} s for rank(s) {} of world ranks [{}]", call.collective,
                       name_, rank, team_.timeout.count(), fmt::join(missing, ", "),
                       fmt::join(world_ranks_, ", "));
  }

  Team& team_;
  const std::string name_;
  const std::vector<int> world_ranks_;
  std::vector<bool> present_, joined_;
  std::uint64_t turn_ = 0;
  std::map<std::pair<int, int>, std::deque<Letter>> mail_;  // by (from, to)
  std::list<std::shared_ptr<Group>> children_;              // not yet joined by all
};

std::byte* at(void* base, std::int64_t element, std::size_t element_size) {
  return static_cast<std::byte*>(base) + static_cast<std::size_t>(element) * element_size;
}
const std::byte* at(const void* base, std::int64_t element, std::size_t element_size) {
  return static_cast<const std::byte*>(base) + static_cast<std::size_t>(element) * element_size;
}

// Every collective is arrive, read the others' buffers, meet. All are done when they return.
class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int rank, int size, std::string name)
      : Communicator(rank, size, std::move(name)), group_(std::move(group)) {}

  [[noreturn]] void abort(int exit_code) override {
    fail(ExitCode::kFailure, "rank {} aborted the run with code {}", rank(), exit_code);
  }

 private:
  // Rank r sums slice r of all ranks in place, then everyone copies the finished slices.
  Work do_all_reduce(Tensor inout, ReduceOp op) override {
    arrive("all_reduce", inout, inout, inout.numel(), static_cast<int>(op));
    const std::int64_t n = inout.numel();
    const auto begin = [&](int r) { return n * r / size(); };
    sum_slice(op, inout.dtype, begin(rank()), begin(rank() + 1) - begin(rank()),
              at(inout.data, begin(rank()), size_of(inout.dtype)));
    group_->meet(rank());
    for (int r = 0; r < size(); ++r) {
      if (r != rank()) copy_from(r, begin(r), inout, begin(r), begin(r + 1) - begin(r));
    }
    group_->meet(rank());
    return {};
  }

  Work do_all_gather(Tensor in, Tensor out, Placement placement) override {
    const bool in_place = placement == Placement::kInPlace;
    arrive(in_place ? "all_gather_in_place" : "all_gather", in, out, in.numel());
    for (int r = 0; r < size(); ++r) {
      if (!in_place || r != rank()) copy_from(r, 0, out, r * in.numel(), in.numel());
    }
    group_->meet(rank());
    return {};
  }

  // In place too: other ranks read other parts of this rank's input.
  Work do_reduce_scatter(Tensor in, Tensor out, Placement placement) override {
    const bool in_place = placement == Placement::kInPlace;
    arrive(in_place ? "reduce_scatter_in_place" : "reduce_scatter", in, out, out.numel());
    sum_slice(ReduceOp::kSum, in.dtype, rank() * out.numel(), out.numel(), out.data);
    group_->meet(rank());
    return {};
  }

  Work do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                       std::span<const std::int64_t> recv_rows) override {
    const auto row = static_cast<std::int64_t>(row_bytes(in) / size_of(in.dtype));
    Call call = make_call("all_to_all_v", in, out, row);
    call.send_rows = send_rows;
    call.recv_rows = recv_rows;
    group_->arrive(rank(), call);
    std::int64_t to = 0;
    for (int r = 0; r < size(); ++r) {
      const std::span<const std::int64_t> sent = group_->calls[static_cast<std::size_t>(r)].send_rows;
      std::int64_t from = 0;
      for (int before = 0; before < rank(); ++before) from += sent[static_cast<std::size_t>(before)];
      const std::int64_t rows = recv_rows[static_cast<std::size_t>(r)];
      copy_from(r, from * row, out, to * row, rows * row);
      to += rows;
    }
    group_->meet(rank());
    return {};
  }

  Work do_broadcast(Tensor inout, int root) override {
    arrive("broadcast", inout, inout, inout.numel(), root);
    if (rank() != root) copy_from(root, 0, inout, 0, inout.numel());
    group_->meet(rank());
    return {};
  }

  Work do_send(Tensor in, int peer) override {
    group_->post(rank(), peer, in);
    return {};
  }

  Work do_recv(Tensor out, int peer) override {
    group_->fetch(peer, rank(), out);
    return {};
  }

  void do_barrier() override {
    group_->arrive(rank(), Call{.collective = "barrier"});
    group_->meet(rank());
  }

  std::unique_ptr<Communicator> do_split(std::span<const int> members, int new_rank,
                                         std::string name) override {
    auto group = group_->join_child(members, new_rank, name);
    return std::make_unique<ThreadCommunicator>(std::move(group), new_rank, static_cast<int>(members.size()),
                                                std::move(name));
  }

  Call make_call(const char* collective, const Tensor& in, const Tensor& out, std::int64_t numel) const {
    ENSURE(in.device == Device::kCpu, "{} over {}: {} is not in host memory", collective, name(),
           in.to_string());
    return {.collective = collective, .dtype = in.dtype, .numel = numel, .in = in.data, .out = out.data};
  }

  void arrive(const char* collective, const Tensor& in, const Tensor& out, std::int64_t numel,
              int option = 0) {
    Call call = make_call(collective, in, out, numel);
    call.option = option;
    group_->arrive(rank(), call);
  }

  // Elements [begin, begin + n) of all ranks' inputs, summed in rank order into `out`.
  void sum_slice(ReduceOp op, DType dtype, std::int64_t begin, std::int64_t n, void* out) const {
    std::vector<const void*> parts;
    for (const Call& call : group_->calls) parts.push_back(at(call.in, begin, size_of(dtype)));
    reduce_in_rank_order(op, dtype, parts, n, out);
  }

  void copy_from(int peer, std::int64_t peer_begin, const Tensor& out, std::int64_t begin,
                 std::int64_t n) const {
    const std::byte* from =
        at(group_->calls[static_cast<std::size_t>(peer)].in, peer_begin, size_of(out.dtype));
    std::byte* to = at(out.data, begin, size_of(out.dtype));
    if (n > 0) std::memcpy(to, from, static_cast<std::size_t>(n) * size_of(out.dtype));
  }

  std::shared_ptr<Group> group_;
};

}  // namespace

void run_on_threads(int size, const std::function<void(Communicator& world)>& body, double timeout_seconds) {
  Team team;
  team.timeout = std::chrono::duration<double>(timeout_seconds);
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r) ranks.push_back(r);
  const auto world = std::make_shared<Group>(team, ranks, "world");
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      try {
        ThreadCommunicator communicator(world, r, size, "world");
        body(communicator);
      } catch (const Released&) {
      } catch (...) {
        const std::lock_guard lock(team.mutex);
        if (team.failure == nullptr) team.failure = std::current_exception();
        team.changed.notify_all();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (team.failure != nullptr) std::rethrow_exception(team.failure);
}

std::vector<std::string> run_packed_on_threads(int size, const PackedBody& body, double timeout_seconds) {
  std::vector<std::string> results(static_cast<std::size_t>(size));
  const auto keep = [&](Communicator& world) {
    results[static_cast<std::size_t>(world.rank())] = body(world);
  };
  run_on_threads(size, keep, timeout_seconds);
  return results;
}

}  // namespace jevons::test
