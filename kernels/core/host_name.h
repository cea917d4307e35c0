// What this host is called.
#pragma once

#include <string>

namespace jevons {

// As the operating system has it; "?" if it does not say.
std::string host_name();

}  // namespace jevons
