// What devices can do at most, for MFU.
#pragma once

#include <string>

namespace jevons {

// Dense BF16 peak in TFLOP/s of a GPU by its driver's name, from NVIDIA's datasheets; 0 if it is not known.
double known_peak_tflops(const std::string& device_type);

}  // namespace jevons
