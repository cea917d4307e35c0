// Sends and receives of pipeline schedules, run over channels that exist in this file alone: messages placed
// right beside the actions hang or are mistaken for each other, those of lower() never.
#include "parallel/pipeline/lower.h"

#include <algorithm>
#include <map>
#include <ostream>
#include <tuple>

#include "parallel/pipeline/check.h"
#include "tests/parallel/schedules.h"
#include "tests/support/catch.h"

namespace jevons {
namespace {

using namespace test;

// What travels, named by the stage that takes it.
struct Payload {
  bool gradient = false;
  std::int64_t stage = -1, micro_batch = -1;
  bool operator==(const Payload&) const = default;
  auto operator<=>(const Payload&) const = default;
};

struct Call {
  bool send = false;
  int peer = -1;
  Payload payload;
};

// A call, or an action that needs what has been received.
struct Step {
  enum class Kind { kCall, kRun } kind;
  Call call{};
  std::vector<Payload> needs{};
};

using Program = std::vector<Step>;

bool exists(const PipelineShape& shape, const Payload& payload) {
  return payload.stage >= 0 && payload.stage < shape.stages();
}

// From `stage` to the stage that takes `payload`, or the other way round.
void add_call(const PipelineShape& shape, std::int64_t stage, std::int64_t other, Call call,
              Program& program) {
  call.peer = shape.rank_of(other);
  if (call.peer != shape.rank_of(stage)) program.push_back({.kind = Step::Kind::kCall, .call = call});
}

// The receives of an action, or of a pair, right before it, its sends right behind it.
std::vector<Program> naive(const PipelineSchedule& schedule) {
  const PipelineShape& shape = schedule.shape;
  std::vector<Program> programs;
  for (const std::vector<Action>& actions : schedule.ranks) {
    Program program;
    for (std::size_t k = 0; k < actions.size();) {
      const std::size_t end = k + (actions[k].with_next ? 2 : 1);
      Program sends;
      Step run{.kind = Step::Kind::kRun};
      for (; k < end; ++k) {
        const auto [kind, s, i, with_next] = actions[k];
        if (kind == ActionKind::kBackwardWeight) continue;
        const bool backward = is_backward(kind);
        const std::int64_t before = backward ? s + 1 : s - 1, behind = backward ? s - 1 : s + 1;
        const Payload taken{backward, s, i}, made{backward, behind, i};
        if (before >= 0 && before < shape.stages()) {
          const std::size_t calls = program.size();
          add_call(shape, s, before, {.send = false, .payload = taken}, program);
          if (program.size() > calls) run.needs.push_back(taken);
        }
        if (exists(shape, made)) add_call(shape, s, behind, {.send = true, .payload = made}, sends);
      }
      program.push_back(run);
      program.insert(program.end(), sends.begin(), sends.end());
    }
    programs.push_back(program);
  }
  return programs;
}

// As lower() places them. An action may take its input from no other slot than the one where it was put.
std::vector<Program> lowered(const PipelineSchedule& schedule) {
  std::vector<Program> programs;
  for (const RankProgram& rank : lower(schedule)) {
    Program program;
    std::vector<Payload> inbox(static_cast<std::size_t>(rank.inbox_slots));
    for (const auto& [kind, action, peer, slot] : rank.instructions) {
      const bool backward = is_backward(action.kind);
      const Payload taken{backward, action.stage, action.micro_batch};
      switch (kind) {
        case Instruction::Kind::kRun: {
          Step run{.kind = Step::Kind::kRun};
          if (slot >= 0) {
            REQUIRE(inbox.at(static_cast<std::size_t>(slot)) == taken);
            inbox[static_cast<std::size_t>(slot)] = {};
            run.needs.push_back(taken);
          }
          program.push_back(run);
          break;
        }
        case Instruction::Kind::kSend: {
          const Payload made{backward, action.stage + (backward ? -1 : 1), action.micro_batch};
          program.push_back({.kind = Step::Kind::kCall, .call = {true, peer, made}});
          break;
        }
        case Instruction::Kind::kReceive:
          REQUIRE(inbox.at(static_cast<std::size_t>(slot)) == Payload{});
          inbox[static_cast<std::size_t>(slot)] = taken;
          program.push_back({.kind = Step::Kind::kCall, .call = {false, peer, taken}});
          break;
      }
    }
    programs.push_back(program);
  }
  return programs;
}

// When a rank waits for its calls, and which of them are in the order of one queue.
struct Channel {
  enum class Wait { kEachCall, kNeighbours, kUse } wait;
  enum class Queue { kRank, kPair, kPairAndKind } queue;
};
constexpr Channel kBlocking = {Channel::Wait::kEachCall, Channel::Queue::kRank};
constexpr Channel kGrouped = {Channel::Wait::kNeighbours, Channel::Queue::kPairAndKind};
constexpr Channel kOneQueue = {Channel::Wait::kUse, Channel::Queue::kRank};     // an NCCL communicator
constexpr Channel kQueueOfPair = {Channel::Wait::kUse, Channel::Queue::kPair};  // MPI with one tag
constexpr Channel kQueueOfKind = {Channel::Wait::kUse,
                                  Channel::Queue::kPairAndKind};  // MPI with a tag for each kind

enum class Outcome { kDone, kHangs, kMispaired };

std::ostream& operator<<(std::ostream& out, Outcome outcome) {
  return out << (outcome == Outcome::kDone ? "done" : outcome == Outcome::kHangs ? "hangs" : "mispaired");
}

// A send and a receive meet when both are first in their queues.
class Network {
 public:
  Network(const std::vector<Program>& programs, Channel channel) : channel_(channel) {
    for (const Program& program : programs) ranks_.push_back({.program = &program});
  }

  Outcome run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (Rank& rank : ranks_)
        while (advance(rank)) moved = true;
      for (std::size_t r = 0; r < ranks_.size(); ++r)
        while (meet(static_cast<int>(r))) moved = true;
      if (mispaired_) return Outcome::kMispaired;
    }
    for (const Rank& rank : ranks_)
      if (rank.at < rank.program->size() || !rank.calls.empty()) return Outcome::kHangs;
    return Outcome::kDone;
  }

 private:
  struct Rank {
    const Program* program;
    std::size_t at = 0;
    std::vector<Call> calls{};    // begun and not met
    std::vector<Payload> here{};  // received
  };

  bool advance(Rank& rank) const {
    if (rank.at == rank.program->size()) return false;
    const Step& step = (*rank.program)[rank.at];
    if (step.kind == Step::Kind::kCall) {
      if (channel_.wait == Channel::Wait::kEachCall && !rank.calls.empty()) return false;
      rank.calls.push_back(step.call);
    } else {
      if (channel_.wait != Channel::Wait::kUse && !rank.calls.empty()) return false;
      for (const Payload& payload : step.needs)
        if (std::find(rank.here.begin(), rank.here.end(), payload) == rank.here.end()) return false;
    }
    ++rank.at;
    return true;
  }

  auto queue_of(const Call& call) const {
    const bool pair = channel_.queue != Channel::Queue::kRank;
    const bool kind = channel_.queue == Channel::Queue::kPairAndKind;
    return std::tuple(pair ? call.peer : -1, pair && call.send, kind && call.payload.gradient);
  }

  bool is_first(const Rank& rank, std::size_t call) const {
    for (std::size_t c = 0; c < call; ++c)
      if (queue_of(rank.calls[c]) == queue_of(rank.calls[call])) return false;
    return true;
  }

  // A send of this rank with a receive of its peer.
  bool meet(int sender) {
    Rank& from = ranks_[static_cast<std::size_t>(sender)];
    for (std::size_t s = 0; s < from.calls.size(); ++s) {
      if (!from.calls[s].send || !is_first(from, s)) continue;
      Rank& to = ranks_[static_cast<std::size_t>(from.calls[s].peer)];
      for (std::size_t r = 0; r < to.calls.size(); ++r) {
        const Call& receive = to.calls[r];
        if (receive.send || receive.peer != sender || !is_first(to, r)) continue;
        const Payload sent = from.calls[s].payload;
        if (channel_.queue == Channel::Queue::kPairAndKind && sent.gradient != receive.payload.gradient)
          continue;
        mispaired_ = mispaired_ || sent != receive.payload;
        to.here.push_back(receive.payload);
        from.calls.erase(from.calls.begin() + static_cast<std::ptrdiff_t>(s));
        to.calls.erase(to.calls.begin() + static_cast<std::ptrdiff_t>(r));
        return true;
      }
    }
    return false;
  }

  Channel channel_;
  std::vector<Rank> ranks_;
  bool mispaired_ = false;
};

Outcome outcome_of(const std::vector<Program>& programs, Channel channel) {
  return Network(programs, channel).run();
}

constexpr std::array kChannels = {kBlocking, kGrouped, kOneQueue, kQueueOfPair, kQueueOfKind};

void check_lowered(const PipelineSchedule& schedule) {
  const std::vector<Program> programs = lowered(schedule);
  for (const Channel channel : kChannels) {
    INFO(to_text(schedule) << "wait " << static_cast<int>(channel.wait) << " queue "
                           << static_cast<int>(channel.queue));
    REQUIRE(outcome_of(programs, channel) == Outcome::kDone);
  }
}

std::vector<PipelineSchedule> cases_of(PipelineKind kind, const std::vector<std::int64_t>& micro_batches) {
  return accepted(options_of(kind, 1, 1), {2, 3, 4, 5, 6, 7, 8}, micro_batches);
}

int most_slots(const PipelineSchedule& schedule) {
  int most = 0;
  for (const RankProgram& program : lower(schedule)) most = std::max(most, program.inbox_slots);
  return most;
}

}  // namespace

// How many of the cases do not come to their end, by channel and kind.
TEST_CASE("messages beside their actions hang or are mistaken for each other", "[schedule]") {
  const std::vector<std::int64_t> micro_batches = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16};
  const std::array<std::size_t, 5> cases = {70, 65, 70, 70, 21};
  const std::array<std::array<int, 5>, 5> hangs = {{{63, 58, 63, 63, 21},  // kBlocking
                                                    {0, 16, 0, 63, 21},    // kGrouped
                                                    {63, 58, 63, 63, 21},  // kOneQueue
                                                    {0, 0, 0, 0, 0},       // kQueueOfPair
                                                    {0, 0, 0, 0, 0}}};     // kQueueOfKind
  const std::array<std::array<int, 5>, 5> mispaired = {
      {{0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}, {0, 0, 0, 35, 14}, {0, 0, 0, 0, 0}}};
  for (std::size_t k = 0; k < kKinds.size(); ++k) {
    const std::vector<PipelineSchedule> schedules = cases_of(kKinds[k], micro_batches);
    CHECK(schedules.size() == cases[k]);
    for (std::size_t c = 0; c < kChannels.size(); ++c) {
      std::map<Outcome, int> outcomes;
      for (const PipelineSchedule& schedule : schedules)
        ++outcomes[outcome_of(naive(schedule), kChannels[c])];
      INFO(name_of(kKinds[k]) << ", channel " << c);
      CHECK(outcomes[Outcome::kHangs] == hangs[c][k]);
      CHECK(outcomes[Outcome::kMispaired] == mispaired[c][k]);
    }
  }
}

TEST_CASE("messages in one order arrive over every channel", "[schedule]") {
  for (const PipelineKind kind : kKinds)
    for (const PipelineSchedule& schedule : cases_of(kind, from_to(1, 16))) check_lowered(schedule);
  for (const int v : {1, 2, 4}) {
    const PipelineOptions pairs{PipelineKind::kInterleaved, 1, 1, v, PipelineOverlap::kPairs};
    for (const PipelineSchedule& schedule : accepted(pairs, {1, 2, 3, 4, 8}, from_to(1, 16)))
      check_lowered(schedule);
  }
  for (const int ranks : {1, 2, 3, 4, 8}) {
    for (const std::int64_t m : from_to(1, 17)) {
      for (const int v : {1, 2, 4}) check_lowered(generate_forward_schedule({ranks, v, m}));
      check_lowered(generate_forward_schedule({ranks, 2, m, StagePlacement::kV}));
    }
  }
}

TEST_CASE("slots of the inbox", "[schedule]") {
  const std::array<std::array<int, 4>, 5> slots = {
      {{1, 2, 2, 2}, {3, 4, 4, 6}, {1, 2, 2, 2}, {2, 3, 3, 3}, {2, 4, 4, 4}}};
  for (std::size_t k = 0; k < kKinds.size(); ++k) {
    std::array<int, 4> found{};
    for (int i = 0; i < 4; ++i) {
      const int ranks = 2 << i;
      found[static_cast<std::size_t>(i)] =
          most_slots(generate_schedule(options_of(kKinds[k], ranks, 4 * ranks)));
    }
    INFO(name_of(kKinds[k]));
    CHECK(found == slots[k]);
  }
}

}  // namespace jevons
