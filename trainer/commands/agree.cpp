#include "trainer/commands/agree.h"

#include <cstdint>
#include <exception>
#include <optional>
#include <string>

namespace jevons {
namespace {

std::optional<Error> failure_of(const std::function<void()>& step) {
  try {
    step();
    return std::nullopt;
  } catch (const Error& e) {
    return e;
  } catch (const std::exception& e) {
    return Error(ExitCode::kFailure, e.what());
  }
}

}  // namespace

void agree(Communicator& world, const std::function<void()>& step) {
  const std::optional<Error> failure = failure_of(step);
  // (rank, code) of the lowest failing rank, in one number that kMin can choose.
  constexpr std::int32_t kCodes = 256;
  std::int32_t lowest = world.size() * kCodes;
  if (failure) lowest = world.rank() * kCodes + static_cast<std::int32_t>(failure->code());
  world.all_reduce({&lowest, {1}, DType::kI32, Device::kCpu}, ReduceOp::kMin).wait();
  const int rank = lowest / kCodes;
  if (rank == world.size()) return;
  const auto code = static_cast<ExitCode>(lowest % kCodes);
  if (rank == world.rank()) throw AgreedError(code, failure->what(), AgreedError::Voice::kSpeaks);
  throw AgreedError(code, "see worker " + std::to_string(rank), AgreedError::Voice::kSilent);
}

}  // namespace jevons
