#include "parallel/agree.h"

#include <array>
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

Tensor host_tensor(std::int64_t* values, std::int64_t n) {
  return {values, {n}, DType::kI64, Device::kCpu};
}

}  // namespace

void agree(Communicator& world, const std::function<void()>& step) {
  const std::optional<Error> failure = failure_of(step);
  std::int64_t culprit = failure ? world.rank() : world.size(), failed = failure ? 1 : 0;
  world.all_reduce(host_tensor(&culprit, 1), ReduceOp::kMin).wait();
  if (culprit == world.size()) return;
  world.all_reduce(host_tensor(&failed, 1)).wait();

  const bool speaks = culprit == world.rank();
  std::string message = speaks ? failure->what() : "";
  std::array<std::int64_t, 2> code_and_length{};
  if (speaks) {
    code_and_length = {static_cast<std::int64_t>(failure->code()), static_cast<std::int64_t>(message.size())};
  }
  const int root = static_cast<int>(culprit);
  world.broadcast(host_tensor(code_and_length.data(), 2), root).wait();
  message.resize(static_cast<std::size_t>(code_and_length[1]));
  world.broadcast({message.data(), {code_and_length[1]}, DType::kU8, Device::kCpu}, root).wait();
  if (failed < world.size()) message = fmt::format("rank {}: {}", culprit, message);
  throw AgreedError(static_cast<ExitCode>(code_and_length[0]), message,
                    speaks ? AgreedError::Voice::kSpeaks : AgreedError::Voice::kSilent);
}

std::string agree_on(Communicator& world, std::string text) {
  auto length = static_cast<std::int64_t>(text.size());
  world.broadcast(host_tensor(&length, 1), 0).wait();
  text.resize(static_cast<std::size_t>(length));
  if (length > 0) world.broadcast({text.data(), {length}, DType::kU8, Device::kCpu}, 0).wait();
  return text;
}

}  // namespace jevons
