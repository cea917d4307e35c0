// jevons checkpoint inspect, verify, diff.
#include <fmt/core.h>

#include <chrono>

#include "kernels/core/error.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/compare.h"
#include "trainer/checkpoint/inspect.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/io/format.h"
#include "trainer/run/continuation.h"

namespace jevons {
namespace {

struct CheckpointOptions {
  std::string path;  // directory of one checkpoint, or of a run: then that on which it stands
};

struct CheckpointDiffOptions {
  std::string a, b;  // as CheckpointOptions::path
};

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

int run_checkpoint_diff(const CheckpointDiffOptions& options) {
  const std::string path_a = find_checkpoint(options.a), path_b = find_checkpoint(options.b);
  const CheckpointReader a(path_a), b(path_b);
  fmt::print("{}, step {}\n{}, step {}\n\n", path_a, a.state().step, path_b, b.state().step);
  for (const std::string& line : config_differences(a.state(), path_a, b.state(), path_b)) {
    fmt::print("{}\n", line);
  }
  fmt::print("{}", describe_differences(compare_tensors(a, b)));
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

void add_checkpoint(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* checkpoint = app.add_subcommand("checkpoint", "Checkpoints: list, verify, compare");
  const auto add = [&](const char* name, const char* help, int (*function)(const CheckpointOptions&)) {
    CLI::App* command = checkpoint->add_subcommand(name, help);
    auto options = std::make_shared<CheckpointOptions>();
    command->add_option("path", options->path, kCheckpointHelp)->required()->type_name("PATH");
    command->callback(
        [options, function, &chosen] { chosen.run = [=](Job&) { return function(*options); }; });
  };
  add("inspect", "Step, configuration, tensors", run_checkpoint_inspect);
  add("verify", "Read every byte against its checksum", run_checkpoint_verify);
  CLI::App* diff = checkpoint->add_subcommand("diff", "What differs between two: options, tensors");
  auto options = std::make_shared<CheckpointDiffOptions>();
  diff->add_option("a", options->a, kCheckpointHelp)->required()->type_name("A");
  diff->add_option("b", options->b, "Another one")->required()->type_name("B");
  diff->callback(
      [options, &chosen] { chosen.run = [options](Job&) { return run_checkpoint_diff(*options); }; });
}

}  // namespace jevons
