// One line per logged step, for people.
#pragma once

#include <string>

#include "trainer/report/step_metrics.h"

namespace jevons {

// "step 120/2000  loss 1.8421  lr 3.00e-04  norm 0.412  18.2k tok/s (9.1k/device)  MFU 41.2 %  load 1.31
// balance 1.042
//  0.42 device-h  0.840 USD  ETA 3m 12s", on one line. What is unknown is left out.
std::string console_line(const StepMetrics& metrics);
std::string console_line(const ValidationMetrics& metrics);

}  // namespace jevons
