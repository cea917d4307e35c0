// Failing together: a step that may fail on some workers (bad configuration, missing file, full disk) fails
// on all or none.
#pragma once

#include <functional>
#include <string>

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

// Collective; also a barrier. Runs `step`, which may differ by rank and must not communicate. If it throws on
// any worker, throws AgreedError on all of them, with the code and message of the lowest rank that failed;
// that rank speaks. "rank 2: " stands before the message unless every worker failed.
void agree(Communicator& world, const std::function<void()>& step);

}  // namespace jevons
