#include "fibers.h"

#include <sys/mman.h>

#include <boost/context/detail/fcontext.hpp>

namespace emulation {
namespace {

namespace context = boost::context::detail;

constexpr std::size_t kGuardPage = 4096;
void (*fiber_body)() = nullptr;

// A switch hands over the fiber that was left, so that its context can be noted.
void enter(context::transfer_t transfer) {
  static_cast<Fiber*>(transfer.data)->context = transfer.fctx;
  fiber_body();
}

char* new_stack() {
  void* memory = mmap(nullptr, kGuardPage + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  mprotect(memory, kGuardPage, PROT_NONE);
  return static_cast<char*>(memory) + kGuardPage;
}

void begin(Fiber& fiber) {
  fiber.context = context::make_fcontext(fiber.stack + kStackBytes, kStackBytes, enter);
}

}  // namespace

void switch_fiber(Fiber* from, Fiber* to) {
  const context::transfer_t back =
      context::jump_fcontext(static_cast<context::fcontext_t>(to->context), from);
  static_cast<Fiber*>(back.data)->context = back.fctx;
}

Fiber* FiberPool::take() {
  fiber_body = body_;
  if (free_.empty()) {
    auto* fiber = new Fiber{nullptr, new_stack()};
    begin(*fiber);
    all_.push_back(fiber);
    return fiber;
  }
  Fiber* fiber = free_.back();
  free_.pop_back();
  return fiber;
}

void FiberPool::restart() {
  free_ = all_;
  for (Fiber* fiber : all_) begin(*fiber);
}

}  // namespace emulation
