#include "trainer/run/signals.h"

#include <csignal>
#include <initializer_list>

namespace jevons {
namespace {

volatile std::sig_atomic_t received = 0, terms = 0;

void on_signal(int number) {
  received = 1;
  if (number != SIGTERM) return;
  terms = 1;
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace

void catch_stop_signals() {
  sigset_t caught;
  sigemptyset(&caught);
  for (int number : {SIGTERM, SIGUSR1, SIGUSR2}) {
    std::signal(number, on_signal);
    sigaddset(&caught, number);
  }
  pthread_sigmask(SIG_UNBLOCK, &caught, nullptr);
}

bool stop_signal_received() {
  return received != 0;
}

bool term_received() {
  return terms != 0;
}

}  // namespace jevons
