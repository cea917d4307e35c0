#include "trainer/checkpoint/agree.h"

#include <array>
#include <optional>
#include <string>

#include "kernels/core/error.h"

namespace jevons {
namespace {

std::optional<Error> failure_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e;
  } catch (const std::exception& e) {
    return Error(ExitCode::kFailure, e.what());
  }
  return std::nullopt;
}

}  // namespace

void succeed_together(Communicator& world, const std::function<void()>& work) {
  const std::optional<Error> mine = failure_of(work);
  std::array<std::int64_t, 1> lowest = {mine ? world.rank() : world.size()};
  world.all_reduce({lowest.data(), {1}, DType::kI64}, ReduceOp::kMin).wait();
  if (lowest[0] == world.size()) return;

  const auto culprit = static_cast<int>(lowest[0]);
  std::string message;
  std::array<std::int64_t, 2> code_and_length{};
  if (world.rank() == culprit) {
    message = mine->what();
    code_and_length = {static_cast<std::int64_t>(mine->code()), static_cast<std::int64_t>(message.size())};
  }
  world.broadcast({code_and_length.data(), {2}, DType::kI64}, culprit).wait();
  message.resize(static_cast<std::size_t>(code_and_length[1]));
  world.broadcast({message.data(), {code_and_length[1]}, DType::kU8}, culprit).wait();
  const std::string who = world.size() > 1 ? fmt::format("rank {}: ", culprit) : "";
  throw Error(static_cast<ExitCode>(code_and_length[0]), who + message);
}

}  // namespace jevons
