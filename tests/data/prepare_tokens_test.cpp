// data prepare with a tokenizer of a file: threads and cuts change no token, the facts beside the tokens,
// what the loader makes of them.
#include <nlohmann/json.hpp>

#include "data/data_loader.h"
#include "data/token_facts.h"
#include "tests/data/preparation.h"

namespace jevons {
namespace {

const std::string kBytes = JEVONS_SOURCE_DIR "/tests/data/tokenizers/bytes.json";
const std::string kCharacters = JEVONS_SOURCE_DIR "/tests/data/tokenizers/characters.json";

std::vector<std::int32_t> tokens_of(const std::string& prefix) {
  const TokenFile file(prefix);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(file.num_tokens()));
  file.read(0, ids, 1 << 20);
  return ids;
}

// Longer than a thread's share, with runs of white space, numbers and marks.
std::string long_text() {
  std::string text;
  for (int i = 0; text.size() < 900'000; ++i)
    text += fmt::format("{} begat {}.\n\n  And the sons of \u00e9t\u00e9 were 12{}; <|end|> {}\n", i,
                        i * 7919 % 1000, i, std::string(static_cast<std::size_t>(i % 5), ' '));
  return text;
}

}  // namespace

TEST_CASE("threads and cuts change no token", "[prepare]") {
  for (const std::string& tokenizer : {kBytes, kCharacters}) {
    const std::string text = long_text();
    std::vector<std::int32_t> expected = load_tokenizer(tokenizer)->encode(text);
    expected.push_back(2);
    const std::vector<std::int32_t> small = load_tokenizer(tokenizer)->encode("a small one");
    expected.insert(expected.end(), small.begin(), small.end());
    expected.push_back(2);
    for (const int threads : {1, 3}) {
      Preparation p;
      p.input("long.txt", text);
      p.input("empty.txt", "");
      p.input("small.txt", "a small one");
      p.options.tokenizer = tokenizer;
      p.options.separator = tokenizer == kBytes ? "<mask>" : "<|end|>";
      p.options.threads = threads;
      p.summary = prepare_tokens(p.options);
      if (tokenizer == kBytes) std::replace(expected.begin(), expected.end(), 2, 600);
      CHECK(p.summary.documents == 2);
      CHECK((tokens_of(p.options.output) == expected));
    }
  }
}

TEST_CASE("the facts beside the tokens say what made them", "[prepare]") {
  Preparation p;
  p.input("a.txt", "In the beginning <|end|>");
  p.options.tokenizer = kBytes;
  p.options.separator = "<|end|>";
  p.summary = prepare_tokens(p.options);
  const auto facts = read_facts(TokenFile(p.options.output));
  REQUIRE(facts);
  CHECK(*facts == TokenFacts{.tokenizer = kBytes,
                             .tokenizer_hash = load_tokenizer(kBytes)->hash(),
                             .vocab_size = 603,
                             .separator = 1,
                             .text_bytes = 24,
                             .tokens = p.summary.tokens,
                             .documents = 1});
  // Specials are text, unless they are asked for.
  p.options.specials = Specials::kAreTokens;
  CHECK(prepare_tokens(p.options).tokens < facts->tokens);

  // Others in their place are noticed; without facts they are as ever.
  write_pair(p.options.output, TokenDType::kU16, {{1, 2, 3}});
  CHECK(contains(message_of(ExitCode::kData, [&] { read_facts(TokenFile(p.options.output)); }),
                 "describes other tokens"));
  std::filesystem::remove(facts_path(p.options.output));
  CHECK_FALSE(read_facts(TokenFile(p.options.output)));
  write_bytes(facts_path(p.options.output), "{");
  CHECK(contains(message_of(ExitCode::kData, [&] { read_facts(TokenFile(p.options.output)); }),
                 "out.tokens.json: not valid"));
  CHECK(contains(message_of(ExitCode::kUsage, [&] { prepare_tokens(p.options); }), "out.tokens.json"));
}

TEST_CASE("a tokenizer that names no end of a document needs a separator", "[prepare]") {
  Preparation p;
  p.input("a.txt", "x");
  p.options.tokenizer = kBytes;
  CHECK(contains(p.error(ExitCode::kUsage), "no file says which token ends a document"));
  p.options.separator = "the end";
  CHECK(contains(p.error(ExitCode::kUsage), "the separator \"the end\" is not one token"));
}

TEST_CASE("the loader knows bytes per token, and refuses tokens of another tokenizer", "[loader]") {
  Preparation p, q;
  p.input("a.txt", long_text());
  p.options.tokenizer = kBytes;
  p.options.separator = "<|end|>";
  p.summary = prepare_tokens(p.options);
  DataConfig config;
  config.train = {{.path = p.options.output}};
  config.seq_len = 16;
  const DataLoader loader(config, 700);
  const SourceFacts facts = loader.sources(Split::kTrain)[0];
  REQUIRE(facts.bytes_per_token);
  CHECK(*facts.bytes_per_token ==
        static_cast<double>(p.summary.text_bytes) / static_cast<double>(p.summary.tokens));
  REQUIRE(loader.tokenizer());
  CHECK(loader.tokenizer()->tokenizer == kBytes);
  CHECK(contains(message_of(ExitCode::kUsage, [&] { DataLoader(config, 602); }),
                 "which has 603, but model.vocab_size is 602"));

  q.input("b.txt", long_text());
  q.options.tokenizer = kCharacters;
  q.options.separator = "<|end|>";
  prepare_tokens(q.options);
  config.validation = {{.path = q.options.output}};
  CHECK(contains(message_of(ExitCode::kData, [&] { DataLoader(config, 1000); }),
                 "but those of other files are of"));

  // Without facts ids of two bytes tell nothing, and bytes are one each, as ever.
  std::filesystem::remove(facts_path(q.options.output));
  CHECK_FALSE(DataLoader(config, 1000).sources(Split::kValidation)[0].bytes_per_token);
  q.options.tokenizer = kByteTokenizer;
  q.options.separator = "";
  prepare_tokens(q.options);
  config.train = config.validation;
  CHECK(DataLoader(config, 256).sources(Split::kTrain)[0].bytes_per_token == 1);
}

}  // namespace jevons
