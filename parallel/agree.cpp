#include "parallel/agree.h"

#include <cstdint>
#include <exception>
#include <optional>
#include <string>

#include "parallel/host_exchange.h"

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
  const std::int64_t mine = failure ? world.rank() : world.size();
  const auto culprit = static_cast<int>(all_reduce(world, mine, ReduceOp::kMin));
  if (culprit == world.size()) return;
  const auto failed = all_reduce(world, std::int64_t{failure ? 1 : 0});
  const bool speaks = culprit == world.rank();
  const ExitCode code = broadcast(world, speaks ? failure->code() : ExitCode::kOk, culprit);
  std::string message = broadcast_text(world, speaks ? failure->what() : "", culprit);
  if (failed < world.size()) message = fmt::format("rank {}: {}", culprit, message);
  throw AgreedError(code, message, speaks ? AgreedError::Voice::kSpeaks : AgreedError::Voice::kSilent);
}

}  // namespace jevons
