#include "kernels/core/turns.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <exception>

#include "kernels/core/error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace jevons {
namespace {

// As large as a thread's; pages that nobody touches take no memory. The lowest page is a guard.
class FiberStack {
 public:
  FiberStack()
      : base_(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                   0)) {
    ENSURE(base_ != MAP_FAILED, "no memory for a stack of {} bytes", kBytes);
    ENSURE(mprotect(base_, kGuard, PROT_NONE) == 0, "a stack has no guard");
  }
  ~FiberStack() { munmap(base_, kBytes); }
  FiberStack(const FiberStack&) = delete;
  FiberStack& operator=(const FiberStack&) = delete;

  void* bottom() const { return static_cast<std::byte*>(base_) + kGuard; }
  std::size_t bytes() const { return kBytes - kGuard; }

 private:
  static constexpr std::size_t kBytes = std::size_t{8} << 20, kGuard = 4096;
  void* base_;
};

// Thrown in a task whose partner failed.
struct Ended {};

// The first task runs on the thread's own stack, the second one on a stack of its own. Sanitizers are told of
// every switch.
class Pair final : public Turns {
 public:
  Pair(const std::function<void(Turns&)>& second, PhaseClock* clock)
      : second_(second), clock_(clock), start_(clock != nullptr ? clock->current() : Phase::kIdle) {
    ENSURE(getcontext(&fiber_) == 0, "no context for a second task");
    fiber_.uc_stack.ss_sp = stack_.bottom();
    fiber_.uc_stack.ss_size = stack_.bytes();
    fiber_.uc_link = nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(this);
    makecontext(&fiber_, reinterpret_cast<void (*)()>(&Pair::enter), 2, static_cast<unsigned>(address >> 32),
                static_cast<unsigned>(address));
#if defined(__SANITIZE_THREAD__)
    main_tsan_ = __tsan_get_current_fiber();
    fiber_tsan_ = __tsan_create_fiber(0);
#endif
  }
  ~Pair() override {
#if defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(fiber_tsan_);
#endif
  }

  void run(const std::function<void(Turns&)>& first) {
    try {
      first(*this);
    } catch (const Ended&) {
    } catch (...) {
      failure_ = std::current_exception();
    }
    first_ended_ = true;
    if (!second_ended_) to_second();
    if (failure_) std::rethrow_exception(failure_);
  }

  void hand_over() override {
    if (in_second_) {
      if (!first_ended_) to_first();
    } else if (!second_ended_) {
      to_second();
    }
    if (failure_) throw Ended();
  }

 private:
  static void enter(unsigned high, unsigned low) {
    auto* self = reinterpret_cast<Pair*>(std::uintptr_t{high} << 32 | low);
    self->arrived(nullptr);
    if (self->clock_ != nullptr) self->clock_->enter(self->start_);
    self->run_second();
  }
  void run_second() {
    if (!failure_) {
      try {
        second_(*this);
      } catch (const Ended&) {
      } catch (...) {
        if (!failure_) failure_ = std::current_exception();
      }
    }
    second_ended_ = true;
    to_first();
  }

  void to_second() {
    const Phase phase = clock_ != nullptr ? clock_->current() : Phase::kIdle;
    in_second_ = true;
    leave(stack_.bottom(), stack_.bytes());
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(fiber_tsan_, 0);
#endif
    swapcontext(&main_, &fiber_);
    arrived(main_fake_stack_);
    in_second_ = false;
    if (clock_ != nullptr) clock_->enter(phase);
  }
  void to_first() {
    const Phase phase = clock_ != nullptr ? clock_->current() : Phase::kIdle;
    leave(main_bottom_, main_bytes_);
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(main_tsan_, 0);
#endif
    swapcontext(&fiber_, &main_);
    arrived(fiber_fake_stack_);
    if (clock_ != nullptr) clock_->enter(phase);
  }

#if defined(__SANITIZE_ADDRESS__)
  void leave(const void* bottom, std::size_t bytes) {
    void** kept = in_second_ && bottom == stack_.bottom() ? &main_fake_stack_ : &fiber_fake_stack_;
    __sanitizer_start_switch_fiber(second_ended_ && bottom != stack_.bottom() ? nullptr : kept, bottom,
                                   bytes);
  }
  void arrived(void* fake_stack) {
    const void* bottom = nullptr;
    std::size_t bytes = 0;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &bytes);
    if (bottom != stack_.bottom()) main_bottom_ = bottom, main_bytes_ = bytes;
  }
#else
  void leave(const void*, std::size_t) {}
  void arrived(void*) {}
#endif

  const std::function<void(Turns&)>& second_;
  PhaseClock* clock_;
  Phase start_;  // both begin in it
  FiberStack stack_;
  ucontext_t main_{}, fiber_{};
  bool in_second_ = false, first_ended_ = false, second_ended_ = false;
  std::exception_ptr failure_;
  const void* main_bottom_ = nullptr;
  std::size_t main_bytes_ = 0;
  void *main_fake_stack_ = nullptr, *fiber_fake_stack_ = nullptr;
#if defined(__SANITIZE_THREAD__)
  void *main_tsan_ = nullptr, *fiber_tsan_ = nullptr;
#endif
};

}  // namespace

void run_in_turns(const std::function<void(Turns&)>& first, const std::function<void(Turns&)>& second,
                  PhaseClock* clock) {
  Pair(second, clock).run(first);
}

}  // namespace jevons
