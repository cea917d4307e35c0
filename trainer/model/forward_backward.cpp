#include "trainer/model/forward_backward.h"

#include <algorithm>
#include <map>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/turns.h"
#include "kernels/core/whereabouts.h"
#include "kernels/elementwise.h"

namespace jevons {
namespace {

// A micro-batch between its forward on a stage and the end of its backward there.
struct PassInFlight {
  Arena* stash = nullptr;  // its own
  Stage::Saved saved{};
  Tensor y{};          // rows for the stage behind
  Tensor dy{};         // their gradient, come from there
  Tensor dx{};         // gradient of the rows of the stage before, on another rank
  bool ended = false;  // but for a message that has to leave
};

class Runner {
 public:
  Runner(const Context& ctx, const PipelineRank& rank, const RankProgram& program)
      : outer_(ctx), rank_(rank), program_(program) {
    if (program.inbox_slots == 0) return;
    ENSURE(rank.pp != nullptr && rank.inbox != nullptr, "messages between stages without a pipeline");
    rank.inbox->reset();
    const std::int64_t columns = rank.stages.front().stage->config().hidden_size;
    for (int slot = 0; slot < program.inbox_slots; ++slot)
      inbox_.push_back({rank.inbox->alloc({rank.message_rows, columns}, ctx.compute), {}});
  }

  // `run` computes an action with its own context, whose stash is the pass's.
  template <class Run>
  void follow(Run run) {
    for (std::size_t i = 0; i < program_.instructions.size(); ++i) {
      const Instruction& instruction = program_.instructions[i];
      switch (instruction.kind) {
        case Instruction::Kind::kRun:
          if (instruction.action.with_next) {
            run_pair(run, instruction, program_.instructions.at(++i));
          } else {
            run(context_of(instruction, *outer_.work), pass_of(instruction.action), instruction);
          }
          break;
        case Instruction::Kind::kSend:
          send(instruction);
          break;
        case Instruction::Kind::kReceive: {
          Slot& slot = inbox_.at(static_cast<std::size_t>(instruction.slot));
          slot.arrival = rank_.pp->recv(slot.rows, instruction.peer);
          break;
        }
      }
    }
    ENSURE(passes_.empty(), "{} passes never end", passes_.size());
    rank_.stashes->wait(outer_.clock);
  }

  // Ranks of a stage run the same pairs, so they hand over at the same calls.
  template <class Run>
  void run_pair(Run run, const Instruction& first, const Instruction& second) {
    ENSURE(rank_.pair_work != nullptr, "a pair without memory for its second action");
    const auto task = [&](const Instruction& instruction, Arena& work) {
      return [this, &run, &instruction, &work](Turns& turns) {
        Context ctx = context_of(instruction, work);
        ctx.turns = &turns;
        run(ctx, pass_of(instruction.action), instruction);
      };
    };
    run_in_turns(task(first, *outer_.work), task(second, *rank_.pair_work), outer_.clock);
  }

  Stage& stage(std::int64_t number) const {
    const auto found = std::ranges::find(rank_.stages, number, &PipelineRank::Place::number);
    ENSURE(found != rank_.stages.end(), "no stage {} on this rank", number);
    return *found->stage;
  }
  // Of a stage on this rank, or null.
  PassInFlight* pass_at(std::int64_t stage, std::int64_t micro_batch) {
    const auto found = passes_.find({stage, micro_batch});
    return found == passes_.end() ? nullptr : &found->second;
  }
  // What came for the instruction, in memory of its own.
  Tensor received(const Context& ctx, const Instruction& instruction) {
    Slot& slot = inbox_.at(static_cast<std::size_t>(instruction.slot));
    {
      const PhaseScope phase(ctx.clock, Phase::kBubble);
      slot.arrival.wait();
    }
    return own(ctx, slot.rows);
  }
  static Tensor own(const Context& ctx, Tensor rows) {
    const Tensor mine = ctx.stash->alloc(rows.shape, rows.dtype);
    copy(ctx, rows, mine);
    return mine;
  }
  // The pass ends, at once or when its message has left.
  void end(const Action& action, bool sends) {
    PassInFlight& pass = passes_.at({action.stage, action.micro_batch});
    pass.ended = true;
    if (!sends) release(action.stage, action.micro_batch);
  }
  void release(std::int64_t stage, std::int64_t micro_batch) {
    const auto found = passes_.find({stage, micro_batch});
    rank_.stashes->give_back(*found->second.stash);
    passes_.erase(found);
  }
  // Whether the rows or the gradient that an action makes go to another rank.
  bool sends(const Action& action) const {
    const std::int64_t to = action.stage + (action.kind == ActionKind::kForward ? 1 : -1);
    const Stage& from = stage(action.stage);
    if (action.kind == ActionKind::kForward ? from.range().head : from.range().embedding) return false;
    return std::ranges::find(rank_.stages, to, &PipelineRank::Place::number) == rank_.stages.end();
  }

 private:
  struct Slot {
    Tensor rows;
    Work arrival;
  };

  void note(const Action& action) const {
    if (outer_.whereabouts == nullptr) return;
    outer_.whereabouts->micro_batch(action.micro_batch);
    if (rank_.pp != nullptr) outer_.whereabouts->action(to_text(action));
  }
  // With the stash of its pass.
  Context context_of(const Instruction& instruction, Arena& work) {
    note(instruction.action);
    work.reset();
    Context ctx = outer_;
    ctx.stash = pass_of(instruction.action).stash;
    ctx.work = &work;
    return ctx;
  }
  PassInFlight& pass_of(const Action& action) {
    PassInFlight& pass = passes_[{action.stage, action.micro_batch}];
    if (action.kind == ActionKind::kForward && pass.stash == nullptr)
      pass.stash = &rank_.stashes->take(outer_.clock);
    ENSURE(pass.stash != nullptr, "{} comes before its forward", to_text(action));
    return pass;
  }
  void send(const Instruction& instruction) {
    const Action& action = instruction.action;
    const auto found = passes_.find({action.stage, action.micro_batch});
    ENSURE(found != passes_.end(), "nothing to send of {}", to_text(action));
    const PassInFlight& pass = found->second;
    const Tensor rows = action.kind == ActionKind::kForward ? pass.y : pass.dx;
    rank_.stashes->hold(*pass.stash, rank_.pp->send(rows, instruction.peer));
    if (pass.ended) release(action.stage, action.micro_batch);
  }

  const Context& outer_;
  const PipelineRank& rank_;
  const RankProgram& program_;
  std::map<std::pair<std::int64_t, std::int64_t>, PassInFlight> passes_;  // by stage and micro-batch
  std::vector<Slot> inbox_;
};

// The gradient of the stage's input: to the stage before, in that one's stash, as this one's memory goes to
// other passes; or to where it can leave from.
void hand_back(const Context& ctx, Runner& runner, const Action& action, PassInFlight& pass, Tensor dx) {
  if (action.stage == 0) return;
  if (PassInFlight* before = runner.pass_at(action.stage - 1, action.micro_batch)) {
    Context theirs = ctx;
    theirs.stash = before->stash;
    before->dy = Runner::own(theirs, dx);
  } else {
    const bool stays = action.kind == ActionKind::kBackwardInput || dx.data == pass.dy.data;
    pass.dx = stays ? dx : Runner::own(ctx, dx);
  }
}

// Of each stage, by its number.
std::map<std::int64_t, std::int64_t> last_micro_batches(const RankProgram& program) {
  std::map<std::int64_t, std::int64_t> last;
  for (const Instruction& instruction : program.instructions) {
    std::int64_t& most = last[instruction.action.stage];
    most = std::max(most, instruction.action.micro_batch);
  }
  return last;
}

}  // namespace

void forward_backward(const Context& outer, const PipelineRank& rank, const RankProgram& program,
                      const LossScales& scales, const PassHooks& hooks) {
  const std::map<std::int64_t, std::int64_t> last = last_micro_batches(program);
  Runner runner(outer, rank, program);
  runner.follow([&](const Context& ctx, PassInFlight& pass, const Instruction& instruction) {
    const Action& action = instruction.action;
    const std::int64_t i = action.micro_batch;
    Stage& stage = runner.stage(action.stage);
    const UnitDone done = i == last.at(action.stage) ? hooks.unit_done : UnitDone{};
    if (is_backward(action.kind) && instruction.slot >= 0) pass.dy = runner.received(ctx, instruction);
    switch (action.kind) {
      case ActionKind::kForward: {
        Tensor x;
        if (instruction.slot >= 0)
          x = runner.received(ctx, instruction);
        else if (action.stage > 0)
          x = runner.pass_at(action.stage - 1, i)->y;
        const Tensor figures = stage.range().head ? hooks.figures(i) : Tensor{};
        pass.y = stage.forward(ctx, hooks.read(ctx, i), figures, pass.saved, x);
        if (hooks.after_forward) hooks.after_forward(stage, i, pass.saved);
        return;
      }
      case ActionKind::kBackward:
        hand_back(ctx, runner, action, pass, stage.backward(ctx, pass.saved, scales, done, pass.dy));
        break;
      case ActionKind::kBackwardInput:
        hand_back(ctx, runner, action, pass, stage.backward_input(ctx, pass.saved, scales, pass.dy));
        return;
      case ActionKind::kBackwardWeight:
        stage.backward_weight(ctx, pass.saved, done);
        break;
    }
    runner.end(action, action.kind == ActionKind::kBackward && runner.sends(action));
    if (hooks.gradients_added) hooks.gradients_added(stage, i);
  });
}

void forward_only(const Context& outer, const PipelineRank& rank, const RankProgram& program,
                  const PassHooks& hooks) {
  Runner runner(outer, rank, program);
  runner.follow([&](const Context& ctx, PassInFlight& pass, const Instruction& instruction) {
    const Action& action = instruction.action;
    const std::int64_t i = action.micro_batch;
    Stage& stage = runner.stage(action.stage);
    Tensor x;
    if (instruction.slot >= 0) {
      x = runner.received(ctx, instruction);
    } else if (action.stage > 0) {
      x = Runner::own(ctx, runner.pass_at(action.stage - 1, i)->y);
      runner.release(action.stage - 1, i);
    }
    const Tensor figures = stage.range().head ? hooks.figures(i) : Tensor{};
    pass.y = stage.infer(ctx, hooks.read(ctx, i), figures, x);
    // Rows for a stage on this rank stay until that has taken them.
    if (stage.range().head || runner.sends(action)) runner.end(action, runner.sends(action));
  });
}

}  // namespace jevons
