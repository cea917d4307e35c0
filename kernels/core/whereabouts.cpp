#include "kernels/core/whereabouts.h"

namespace jevons {

void PhaseClock::tell() const {
  whereabouts_->enter(current_);
}

void Whereabouts::enter(Phase phase) {
  const std::lock_guard lock(mutex_);
  place_.phase = phase;
  ++place_.changes;
}

void Whereabouts::begin_step(std::int64_t step) {
  const std::lock_guard lock(mutex_);
  place_.step = step, place_.in_step = true;
  ++place_.steps_begun, ++place_.changes;
}

void Whereabouts::end_step() {
  const std::lock_guard lock(mutex_);
  place_.in_step = false, place_.pass = Pass::kNone;
  place_.action.clear();
  place_.micro_batch = place_.layer = -1;
  ++place_.changes;
}

void Whereabouts::micro_batch(std::int64_t index) {
  const std::lock_guard lock(mutex_);
  place_.micro_batch = index;
  ++place_.changes;
}

void Whereabouts::action(std::string text) {
  const std::lock_guard lock(mutex_);
  place_.action = std::move(text);
  ++place_.changes;
}

void Whereabouts::layer(Pass pass, std::int64_t index) {
  const std::lock_guard lock(mutex_);
  place_.pass = pass, place_.layer = index;
  ++place_.changes;
}

void Whereabouts::begin(const CollectiveCall& call) {
  const std::lock_guard lock(mutex_);
  place_.in_collective = true;
  place_.collective = call.name, place_.over = call.over;
  place_.number = call.number, place_.peer = call.peer, place_.connects = call.connects;
  ++place_.changes;
}

void Whereabouts::end_collective() {
  const std::lock_guard lock(mutex_);
  place_.in_collective = false;
  ++place_.changes;
}

void Whereabouts::await_device() {
  const std::lock_guard lock(mutex_);
  place_.awaits_device = true;
  ++place_.changes;
}

void Whereabouts::end_await_device() {
  const std::lock_guard lock(mutex_);
  place_.awaits_device = false;
  ++place_.changes;
}

void Whereabouts::dispatch(std::span<const std::int64_t> sent, std::span<const std::int64_t> received) {
  const std::lock_guard lock(mutex_);
  place_.tokens_sent.assign(sent.begin(), sent.end());
  place_.tokens_received.assign(received.begin(), received.end());
  ++place_.changes;
}

WorkerPlace Whereabouts::now() const {
  const std::lock_guard lock(mutex_);
  return place_;
}

}  // namespace jevons
