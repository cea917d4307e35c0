#include "trainer/signals.h"

#include <csignal>
#include <initializer_list>

namespace jevons {
namespace {

volatile std::sig_atomic_t received = 0;

void on_signal(int number) {
  received = 1;
  if (number == SIGTERM) std::signal(SIGTERM, SIG_DFL);
}

}  // namespace

void catch_stop_signals() {
  for (int number : {SIGTERM, SIGUSR1, SIGUSR2}) std::signal(number, on_signal);
}

bool stop_signal_received() {
  return received != 0;
}

}  // namespace jevons
