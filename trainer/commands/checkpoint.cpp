// jevons checkpoint inspect, verify, diff, import, export.
#include <fmt/format.h>

#include <chrono>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/compare.h"
#include "trainer/checkpoint/inspect.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/hf/export.h"
#include "trainer/hf/import.h"
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

struct ImportOptions {
  std::string folder, target;
};

int run_checkpoint_import(const ImportOptions& options, Communicator& world) {
  const Imported imported = import_folder(world, options.folder, options.target);
  if (world.rank() != 0) return static_cast<int>(ExitCode::kOk);
  if (!imported.not_taken.empty()) {
    log_warning("{}: config.json has keys whose meaning is not known, and which are not taken over: {}",
                options.folder, fmt::join(imported.not_taken, ", "));
  }
  fmt::print(
      "{}: {} tensors, {} parameters, from {}\n"
      "train from it: include: {}/model.yaml in a configuration, and --init-from {}\n",
      options.target, imported.tensors, format_integer(imported.parameters), imported.origin, options.target,
      options.target);
  return static_cast<int>(ExitCode::kOk);
}

struct ExportOptions {
  ExportRequest request;
  std::string dtype;  // "": as trained
  double shard_mb = 5000;
};

int run_checkpoint_export(const ExportOptions& options, Communicator& world) {
  ExportRequest request = options.request;
  if (!options.dtype.empty())
    request.precision = options.dtype == "bf16" ? Precision::kBF16 : Precision::kF32;
  request.shard_bytes = static_cast<std::int64_t>(options.shard_mb * 1e6);
  const Exported exported = export_folder(world, request);
  if (world.rank() != 0) return static_cast<int>(ExitCode::kOk);
  for (const std::string& note : exported.notes) log_warning("{}", note);
  fmt::print("{}: {}, {} tensors in {}, {} in {} file{}, from {}\n", request.folder, exported.model_type,
             exported.tensors, exported.precision == Precision::kBF16 ? "bf16" : "f32",
             format_bytes(static_cast<double>(exported.bytes)), exported.files,
             exported.files == 1 ? "" : "s", exported.checkpoint);
  return static_cast<int>(ExitCode::kOk);
}

void add_import(CLI::App& checkpoint, ChosenCommand& chosen) {
  CLI::App* command =
      checkpoint.add_subcommand("import", "A Hugging Face folder as a checkpoint; workers share the work");
  auto options = std::make_shared<ImportOptions>();
  command->add_option("folder", options->folder, "With config.json and safetensors files")
      ->required()
      ->type_name("HF_DIR");
  command->add_option("out", options->target, "Directory to be made, the checkpoint")
      ->required()
      ->type_name("OUT")
      ->check(written_out());
  command->callback([options, &chosen] {
    chosen.needs_world = true;
    chosen.run = [options](Job& job) { return run_checkpoint_import(*options, job.world); };
  });
}

void add_export(CLI::App& checkpoint, ChosenCommand& chosen) {
  CLI::App* command =
      checkpoint.add_subcommand("export", "A checkpoint as a Hugging Face folder; workers share the work");
  auto options = std::make_shared<ExportOptions>();
  command->add_option("path", options->request.checkpoint, kCheckpointHelp)->required()->type_name("CKPT");
  command->add_option("out", options->request.folder, "Directory to be made")
      ->required()
      ->type_name("HF_DIR")
      ->check(written_out());
  command->add_option("--dtype", options->dtype, "Of the weights [as trained]")
      ->check(CLI::IsMember({"bf16", "f32"}));
  command
      ->add_option("--shard-mb", options->shard_mb,
                   "A file has at most so many megabytes of tensors, or one tensor")
      ->capture_default_str()
      ->check(CLI::Range(1e-3, 1e9));
  command->callback([options, &chosen] {
    chosen.needs_world = true;
    chosen.run = [options](Job& job) { return run_checkpoint_export(*options, job.world); };
  });
}

}  // namespace

void add_checkpoint(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* checkpoint =
      app.add_subcommand("checkpoint", "Checkpoints: list, verify, compare, Hugging Face folders in and out");
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
  add_import(*checkpoint, chosen);
  add_export(*checkpoint, chosen);
}

}  // namespace jevons
