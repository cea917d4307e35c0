// jevons generate: loads a checkpoint of any layout on one worker and prints a continuation of the prompt.
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "data/tokenizer.h"
#include "kernels/core/error.h"
#include "parallel/meta/meta_communicator.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/commands/model_tokenizer.h"
#include "trainer/hf/model_source.h"
#include "trainer/run/host.h"
#include "trainer/step/generate.h"
#include "trainer/step/run_state.h"

namespace jevons {
namespace {

struct GenerateOptions {
  std::string checkpoint;  // directory of one checkpoint, or of a run: then that on which it stands
  std::string tokenizer;   // "": see tokenizer_of
  std::string prompt;
  std::int64_t max_tokens = 200;
  double temperature = 0.8;  // 0: always the likeliest token
  std::int64_t top_k = 0;    // draw among this many likeliest tokens; 0: all
  std::uint64_t seed = 1;
};

// The configuration that the model was trained with, for one worker.
RunConfig config_of(const ModelSource& source) {
  RunConfig config = parse_run_config(source.config(), source.path + " (passport)", {});
  config.parallel.layout = {};
  config.threads = usable_cores();
  return config;
}

// The prompt's tokens, or the separator for none. Throws Error(kUsage) for one that the model does not know.
std::vector<std::int32_t> encode_prompt(const std::string& prompt, const Tokenizer& tokenizer,
                                        std::int64_t vocab_size) {
  std::vector<std::int32_t> tokens = tokenizer.encode(prompt);
  for (const std::int32_t token : tokens) {
    if (token < vocab_size) continue;
    const bool printable = token > ' ' && token < 127;
    fail(ExitCode::kUsage, "--prompt: byte {}{} is not in the model's vocabulary of {}", token,
         printable ? fmt::format(" (\"{}\")", static_cast<char>(token)) : "", vocab_size);
  }
  if (!tokens.empty()) return tokens;
  if (!tokenizer.separator())
    fail(ExitCode::kUsage, "{} names no token that begins a text: give a --prompt", tokenizer.name());
  return {*tokenizer.separator()};
}

// The text of a token behind others; a model may know more tokens than its tokenizer.
std::string text_of(std::int32_t token, const Tokenizer& tokenizer) {
  constexpr const char* kUnknown = "\ufffd";
  return token < tokenizer.vocab_size() ? std::string(tokenizer.bytes_of(token)) : kUnknown;
}

int run_generate(const GenerateOptions& options) {
  const ModelSource source = open_model(options.checkpoint, SourceCheck::kContents);
  const RunConfig config = config_of(source);
  const std::unique_ptr<Tokenizer> tokenizer =
      tokenizer_of(source, options.tokenizer, config.model.vocab_size);
  std::vector<std::int32_t> tokens = encode_prompt(options.prompt, *tokenizer, config.model.vocab_size);

  MetaCommunicator world(0, 1);
  Worker worker(config, world, {}, nullptr);
  restore_weights(worker, *source.weights);

  fmt::print("{}", options.prompt);
  const Sampling sampling{.max_tokens = options.max_tokens,
                          .temperature = options.temperature,
                          .top_k = options.top_k,
                          .seed = options.seed};
  generate(worker, tokens, sampling, tokenizer->separator().value_or(-1), [&](std::int32_t token) {
    fmt::print("{}", text_of(token, *tokenizer));
    std::fflush(stdout);
  });
  fmt::print("\n");
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

void add_generate(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* command = app.add_subcommand("generate", "Continue a text with a trained model, on one worker");
  auto options = std::make_shared<GenerateOptions>();
  command->add_option("checkpoint", options->checkpoint, kModelHelp)->required()->type_name("PATH");
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "As of data prepare [what came with the model; that of its training data; byte]")
      ->type_name("PATH");
  command->add_option("--prompt", options->prompt, "Text to continue")->type_name("TEXT");
  command->add_option("--max-tokens", options->max_tokens, "Length of the continuation, in tokens")
      ->capture_default_str()
      ->check(at_least(1));
  command->add_option("--temperature", options->temperature, "0: always the likeliest token; 1: as trained")
      ->capture_default_str()
      ->check(at_least(0));
  command->add_option("--top-k", options->top_k, "Draw among this many likeliest tokens; 0: among all")
      ->capture_default_str()
      ->check(at_least(0));
  command->add_option("--seed", options->seed, "Of the random draws")->capture_default_str();
  command->callback([options, &chosen] { chosen.run = [options](Job&) { return run_generate(*options); }; });
}

}  // namespace jevons
