#include "trainer/config/watchdog_section.h"

#include "trainer/config/section.h"

namespace jevons {

void carry(Bridge b, WatchdogConfig& watchdog) {
  b("stall_seconds", watchdog.stall_seconds);
  b("long_stall_seconds", watchdog.long_stall_seconds);
  b("connect_seconds", watchdog.connect_seconds);
  b("step_seconds", watchdog.step_seconds);
}

}  // namespace jevons
