// jevons checkpoint inspect, jevons checkpoint verify.
#include <fmt/core.h>

#include <chrono>

#include "kernels/core/error.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/inspect.h"
#include "trainer/commands/commands.h"
#include "trainer/io/format.h"

namespace jevons {

int run_checkpoint_inspect(const CheckpointOptions& options) {
  fmt::print("{}", describe_checkpoint(find_checkpoint(options.path)));
  return static_cast<int>(ExitCode::kOk);
}

int run_checkpoint_verify(const CheckpointOptions& options) {
  const std::string path = find_checkpoint(options.path);
  const auto start = std::chrono::steady_clock::now();
  CheckpointReader(path).verify();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const CheckpointSize size = size_of_checkpoint(path);
  fmt::print("{}: ok. {} tensors in {} boxes, {} files, {}, read in {} ({}/s)\n", path, size.tensors,
             size.boxes, size.files, format_bytes(size.bytes), format_duration(elapsed.count()),
             format_bytes(size.bytes / elapsed.count()));
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace jevons
