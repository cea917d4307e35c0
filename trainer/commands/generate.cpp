// jevons generate: continues texts with a model, on one worker.
#include <fmt/core.h>

#include <cstdio>
#include <map>
#include <optional>

#include "data/input.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "parallel/meta/meta_communicator.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/hf/model_tokenizer.h"
#include "trainer/io/format.h"
#include "trainer/io/json.h"
#include "trainer/run/host.h"
#include "trainer/step/compute_device.h"
#include "trainer/step/generate.h"
#include "trainer/step/inference.h"

namespace jevons {
namespace {

struct GenerateOptions {
  std::string model;  // as open_model takes it
  std::string prompt;
  std::string prompts;  // file of prompts, a line each; empty: the one above
  Sampling sampling;
  std::int64_t at_once = 8;
  std::string tokenizer;                   // as tokenizer_of takes it
  std::string device = "auto", precision;  // empty: as trained
};

const std::map<std::string, DeviceChoice> kDevices = {
    {"auto", DeviceChoice::kAuto}, {"cpu", DeviceChoice::kCpu}, {"cuda", DeviceChoice::kCuda}};
const std::map<std::string, Precision> kPrecisions = {{"f32", Precision::kF32}, {"bf16", Precision::kBF16}};

// The configuration that the model was trained with, for one worker.
RunConfig config_of(const ModelSource& source, const GenerateOptions& options) {
  RunConfig config = parse_run_config(source.config(), source.path + " (passport)", {});
  config.numerics = Numerics::kStandard;
  config.parallel = {};
  config.train.micro_batch_size = config.train.global_batch_size = 1;
  config.model.mtp = {};  // no part of what comes next
  config.threads = usable_cores();
  config.device = kDevices.at(options.device);
  if (!options.precision.empty()) config.train.precision = kPrecisions.at(options.precision);
  return config;
}

// Chooses device and precision.
ComputeDevice device_for(const GenerateOptions& options, RunConfig& config, Communicator& alone) {
  const ChosenDevice chosen = choose_device(config.device, alone);
  if (!chosen.obstacle.empty()) fail(ExitCode::kUsage, "--device cuda: {}", chosen.obstacle);
  config.device = chosen.choice;
  if (chosen.choice == DeviceChoice::kCuda && options.precision.empty())
    config.train.precision = Precision::kBF16;
  return {chosen.choice, 0, alone};
}

std::vector<std::string> prompts_of(const GenerateOptions& options) {
  if (options.prompts.empty()) return {options.prompt};
  std::vector<std::string> prompts;
  Input input(options.prompts);
  while (const std::optional<Input::Line> line = input.next_line()) {
    prompts.emplace_back(line->text);
    input.consume(line->bytes);
  }
  if (prompts.empty()) fail(ExitCode::kData, "{}: no line, hence no prompt", input.name());
  return prompts;
}

// "--prompt" or "FILE:7".
std::string origin_of(const GenerateOptions& options, std::size_t index) {
  return options.prompts.empty() ? "--prompt" : fmt::format("{}:{}", options.prompts, index + 1);
}

// The prompt's tokens behind what begins a text by the tokenizer's own rule; the separator of documents for
// none. Throws Error(kUsage) for one that the model does not know.
std::vector<std::int32_t> encode_prompt(const std::string& prompt, const std::string& origin,
                                        const Tokenizer& tokenizer, const ModelConfig& model) {
  std::vector<std::int32_t> tokens = tokenizer.prefix();
  const std::vector<std::int32_t> encoded = tokenizer.encode(prompt);
  tokens.insert(tokens.end(), encoded.begin(), encoded.end());
  for (const std::int32_t token : tokens) {
    if (token < model.vocab_size) continue;
    fail(ExitCode::kUsage, "{}: token {} (\"{}\") is not in the model's vocabulary of {}", origin, token,
         tokenizer.bytes_of(token), model.vocab_size);
  }
  if (tokens.empty() && tokenizer.separator()) tokens.push_back(*tokenizer.separator());
  if (tokens.empty())
    fail(ExitCode::kUsage, "{}: is empty, and the tokenizer names no token to begin with", origin);
  if (std::ssize(tokens) > model.seq_len) {
    log_warning("{}: {} tokens, of which the last {}, the model's context, count", origin,
                format_integer(std::ssize(tokens)), format_integer(model.seq_len));
  }
  return tokens;
}

// The text of a token behind others; a model may know more tokens than its tokenizer.
std::string text_of(std::int32_t token, const Tokenizer& tokenizer) {
  constexpr const char* kUnknown = "\ufffd";
  return token < tokenizer.vocab_size() ? std::string(tokenizer.bytes_of(token)) : kUnknown;
}

// A line of JSON.
void print_text(const std::string& prompt, const Continuation& text, std::size_t prompt_tokens,
                const Tokenizer& tokenizer) {
  std::string written;
  for (const std::int32_t token : std::span(text.tokens).subspan(prompt_tokens)) {
    written += text_of(token, tokenizer);
  }
  const nlohmann::ordered_json line = {{"prompt", prompt},
                                       {"text", written},
                                       {"prompt_tokens", prompt_tokens},
                                       {"new_tokens", text.tokens.size() - prompt_tokens},
                                       {"ended", text.ended}};
  fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void report_cost(const GenerationCost& cost) {
  const auto rate = [](std::int64_t tokens, double seconds) {
    return seconds > 0 ? fmt::format(", {:.4g} per device-second", static_cast<double>(tokens) / seconds)
                       : std::string();
  };
  log_info("{} tokens of prompts in {}{}; {} new ones in {}{}", format_integer(cost.prompt_tokens),
           format_duration(cost.prompt_seconds), rate(cost.prompt_tokens, cost.prompt_seconds),
           format_integer(cost.new_tokens), format_duration(cost.new_seconds),
           rate(cost.new_tokens, cost.new_seconds));
}

int run_generate(const GenerateOptions& options) {
  const ModelSource source = open_model(options.model, SourceCheck::kContents);
  RunConfig config = config_of(source, options);
  const std::unique_ptr<Tokenizer> tokenizer =
      tokenizer_of(source, options.tokenizer, config.model.vocab_size);
  const std::vector<std::string> prompts = prompts_of(options);
  std::vector<Continuation> texts;
  std::vector<std::size_t> prompt_tokens;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    texts.push_back({encode_prompt(prompts[i], origin_of(options, i), *tokenizer, config.model)});
    prompt_tokens.push_back(texts[i].tokens.size());
  }

  MetaCommunicator alone(0, 1);
  ComputeDevice device = device_for(options, config, alone);
  InferenceWorker worker(config, device.world(), device.place(), *source.weights);

  const bool one = options.prompts.empty();
  if (one) fmt::print("{}", options.prompt);
  const std::vector<std::int32_t> stops = stop_tokens_of(source, *tokenizer);
  const GenerationLimits limits{.at_once = options.at_once, .stop_tokens = stops};
  const GenerationCost cost =
      generate(worker, texts, options.sampling, limits, [&](std::size_t, std::int32_t token) {
        if (!one) return;
        fmt::print("{}", text_of(token, *tokenizer));
        std::fflush(stdout);
      });
  if (one) fmt::print("\n");
  for (std::size_t i = 0; i < texts.size() && !one; ++i) {
    print_text(prompts[i], texts[i], prompt_tokens[i], *tokenizer);
  }
  std::fflush(stdout);
  report_cost(cost);
  return static_cast<int>(ExitCode::kOk);
}

void add_sampling(CLI::App& command, Sampling& sampling) {
  command.add_option("--max-tokens", sampling.max_tokens, "Length of a continuation, in tokens")
      ->capture_default_str()
      ->check(at_least(1));
  command.add_option("--temperature", sampling.temperature, "0: always the likeliest token; 1: as trained")
      ->capture_default_str()
      ->check(at_least(0));
  command.add_option("--top-k", sampling.top_k, "Draw among this many likeliest tokens; 0: among all")
      ->capture_default_str()
      ->check(at_least(0));
  command
      .add_option("--top-p", sampling.top_p,
                  "Draw among the fewest likeliest tokens whose probabilities sum to this; 1: among all")
      ->capture_default_str()
      ->check(CLI::Range(1e-9, 1.0));
  command.add_option("--seed", sampling.seed, "Of the random draws")->capture_default_str();
}

}  // namespace

void add_generate(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* command = app.add_subcommand("generate", "Continue texts with a trained model, on one worker");
  auto options = std::make_shared<GenerateOptions>();
  command->add_option("model", options->model, kModelHelp)->required()->type_name("MODEL");
  CLI::Option* prompt =
      command->add_option("--prompt", options->prompt, "Text to continue")->type_name("TEXT");
  command
      ->add_option("--prompts", options->prompts,
                   "File of texts to continue, a line each, - for standard input; the answers are lines of "
                   "JSON in the same order")
      ->type_name("FILE")
      ->excludes(prompt);
  command->add_option("--at-once", options->at_once, "Texts of --prompts that are continued together")
      ->capture_default_str()
      ->check(at_least(1));
  add_sampling(*command, options->sampling);
  command->add_option("--tokenizer", options->tokenizer, kTokenizerHelp)->type_name("PATH");
  command->add_option("--device", options->device, "Where to compute; auto: on a GPU if there is one")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command->add_option("--precision", options->precision, "Of the products [as trained]")
      ->check(CLI::IsMember({"f32", "bf16"}));
  command->callback([options, &chosen] { chosen.run = [options](Job&) { return run_generate(*options); }; });
}

}  // namespace jevons
