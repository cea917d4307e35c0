// One outcome on every worker of a step that may fail on some: bad configuration, missing file.
#pragma once

#include <functional>

#include "kernels/core/error.h"
#include "parallel/communicator.h"

namespace jevons {

// An error that every worker knows of: they leave together, in good order, and one of them speaks for all.
class AgreedError : public Error {
 public:
  enum class Voice { kSpeaks, kSilent };
  AgreedError(ExitCode code, const std::string& message, Voice voice) : Error(code, message), voice_(voice) {}
  bool speaks() const { return voice_ == Voice::kSpeaks; }

 private:
  Voice voice_;
};

// Collective. Runs `step`, which must not communicate. If it throws on any worker, throws AgreedError on all
// of them, with the code and message of the lowest rank that failed; that rank speaks.
void agree(Communicator& world, const std::function<void()>& step);

}  // namespace jevons
