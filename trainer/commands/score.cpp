// jevons score: loss and logits of given sequences, by a checkpoint, a run or a Hugging Face folder.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/output_path.h"
#include "parallel/agree.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/hf/model_tokenizer.h"
#include "trainer/io/file.h"
#include "trainer/io/json.h"
#include "trainer/io/npy.h"
#include "trainer/run/host.h"
#include "trainer/step/compute_device.h"
#include "trainer/step/inference.h"
#include "trainer/step/score.h"

namespace jevons {
namespace {

struct ScoreOptions {
  std::string model;      // as open_model takes it
  std::string text, ids;  // one of them
  std::string tokenizer;  // as tokenizer_of takes it
  std::string logits;     // NumPy file to be made; empty: none
  std::string precision;  // "": f32, bf16 on a GPU
  std::vector<std::string> overrides;
};

// What is asked for, the same on all ranks.
struct Task {
  ModelSource source;
  RunConfig config;
  TokenRows rows;
};

// As the model was trained, but for where and how it is computed now.
RunConfig config_for(const ScoreOptions& options, const ModelSource& source, int workers) {
  RunConfig config = parse_run_config(source.config(), source.path + " (passport)", {});
  config.device = DeviceChoice::kAuto;
  config.threads = 0;
  config.numerics = Numerics::kStandard;
  config.parallel = {};
  config.parallel.layout.dp = 0;
  config.train.micro_batch_size = 1;
  config.train.global_batch_size = workers;
  config.train.batch_ramp_start = 0;
  config.data.document_mask = false;
  return parse_run_config(config.to_yaml(), source.path + " (passport)", options.overrides,
                          {.world = workers});
}

TokenRows read_rows(const ScoreOptions& options, const ModelSource& source, std::int64_t vocab_size) {
  if (!options.ids.empty()) return read_ids(options.ids, vocab_size);
  return read_lines(options.text, *tokenizer_of(source, options.tokenizer, vocab_size), vocab_size);
}

void check_logits_path(const ScoreOptions& options) {
  if (options.logits.empty()) return;
  const auto is_logits = [](const std::string& path) {
    const std::string head = file_head(path, kMostNpyHeader);
    return head.starts_with(kNpyMagic) && head.find("'descr': '<f4'") != std::string::npos;
  };
  check_output({options.logits, "a NumPy file of fp32 numbers", is_logits}, {options.text, options.ids});
}

Task task_of(const ScoreOptions& options, const Communicator& world) {
  Task task;
  const bool first = world.rank() == 0;
  task.source = open_model(options.model, first ? SourceCheck::kContents : SourceCheck::kHeaders);
  task.config = config_for(options, task.source, world.size());
  task.rows = read_rows(options, task.source, task.config.model.vocab_size);
  task.rows.pad(task.config.parallel.layout.cp * task.config.parallel.layout.tp);
  if (const Layout& layout = task.config.parallel.layout;
      !options.logits.empty() && layout.pp * layout.cp > 1)
    fail(ExitCode::kUsage,
         "--logits: wants whole sequences and the whole model on each worker: parallel.pp = 1, cp = 1");
  if (first) check_logits_path(options);
  if (first && task.rows.length > task.config.model.seq_len) {
    log_warning("sequences of {} tokens are longer than any that {} is made for, {}", task.rows.length,
                task.source.path, task.config.model.seq_len);
  }
  task.config.model.seq_len = task.rows.length;
  task.config = parse_run_config(task.config.to_yaml(), options.model, {}, {.world = world.size()});
  return task;
}

// Chooses device and precision. Collective.
void settle(const ScoreOptions& options, RunConfig& config, Job& job) {
  const ChosenDevice device = choose_device(config.device, job.world);
  agree(job.world, [&] {
    if (!device.obstacle.empty())
      fail(ExitCode::kUsage, "device: cuda: {}; use cpu or auto", device.obstacle);
    const bool on_gpu = device.choice == DeviceChoice::kCuda;
    const bool narrow = options.precision.empty() ? on_gpu : options.precision == "bf16";
    config.train.precision = narrow ? Precision::kBF16 : Precision::kF32;
  });
  config.device = device.choice;
  if (config.threads == 0) config.threads = threads_per_worker(job.local_workers);
}

void print_score(const std::optional<double>& loss, const TokenRows& rows) {
  std::optional<double> perplexity, bits;
  const std::int64_t targets = rows.targets();
  if (loss) perplexity = std::exp(*loss);
  if (loss && rows.bytes) {
    bits = *loss * static_cast<double>(targets) / std::log(2.0) / static_cast<double>(*rows.bytes);
  }
  const nlohmann::ordered_json result = {{"loss", or_null(loss)},
                                         {"perplexity", or_null(perplexity)},
                                         {"bits_per_byte", or_null(bits)},
                                         {"sequences", rows.rows()},
                                         {"target_tokens", targets}};
  fmt::print("{}\n", result.dump());
}

int run_score(const ScoreOptions& options, Job& job) {
  Communicator& hosts = job.world;
  Task task;
  agree(hosts, [&] {
    if (options.text.empty() == options.ids.empty())
      fail(ExitCode::kUsage, "score: give one of --text and --ids");
    task = task_of(options, hosts);
  });
  settle(options, task.config, job);
  ComputeDevice device(task.config.device, job.local_rank, hosts);
  InferenceWorker worker(task.config, device.world(), device.place(), *task.source.weights);
  const std::optional<double> loss = score(worker, task.rows);
  if (!options.logits.empty()) write_logits(worker, task.rows, options.logits);
  if (hosts.rank() == 0) print_score(loss, task.rows);
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

void add_score(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* command = app.add_subcommand(
      "score",
      "Loss, perplexity and logits of given sequences; start it under mpirun for more than one worker");
  auto options = std::make_shared<ScoreOptions>();
  command->add_option("model", options->model, kModelHelp)->required()->type_name("MODEL");
  command->add_option("--text", options->text, "Text, each line a sequence")->type_name("FILE");
  command->add_option("--ids", options->ids, "Tokens, a NumPy file (sequences, length)")->type_name("FILE");
  command
      ->add_option("--logits", options->logits,
                   "Writes logits (sequences, length, vocabulary), a NumPy file in fp32")
      ->type_name("FILE")
      ->check(written_out());
  command->add_option("--tokenizer", options->tokenizer, kTokenizerHelp)->type_name("PATH");
  command->add_option("--precision", options->precision, "Of the products [f32; bf16 on a GPU]")
      ->check(CLI::IsMember({"f32", "bf16"}));
  command->add_option("overrides", options->overrides, "Options of the configuration, as parallel.ep=2")
      ->type_name("KEY=VALUE");
  command->callback([options, &chosen] {
    chosen.needs_world = true;
    chosen.run = [options](Job& job) { return run_score(*options, job); };
  });
}

}  // namespace jevons
