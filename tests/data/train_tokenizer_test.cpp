// Trained tokenizers: against a trainer that does the same without any index, and against what they are for.
#include <map>
#include <nlohmann/json.hpp>

#include "data/tokenizer.h"
#include "data/tokenizer/bpe_trainer.h"
#include "data/train_tokenizer.h"
#include "kernels/core/rng.h"
#include "tests/data/temp_files.h"

namespace jevons {
namespace {

using Ids = std::vector<std::int32_t>;

// Counts every pair of every word before each merge.
std::vector<Merge> plain_trainer(const PieceCounts& pieces, std::int64_t tokens, std::int64_t min_frequency) {
  std::vector<std::pair<Ids, std::int64_t>> words;
  for (const auto& [text, count] : pieces) {
    Ids ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    words.emplace_back(ids, count);
  }
  std::vector<std::string> names;
  for (int byte = 0; byte < 256; ++byte) names.emplace_back(1, static_cast<char>(byte));
  std::vector<Merge> merges;
  while (std::ssize(names) < tokens) {
    std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> counts;
    for (const auto& [ids, count] : words)
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) counts[{ids[i], ids[i + 1]}] += count;
    auto best = counts.end();
    for (auto at = counts.begin(); at != counts.end(); ++at)
      if (best == counts.end() || at->second > best->second) best = at;
    if (best == counts.end() || best->second < min_frequency) break;
    const auto [left, right] = best->first;
    const std::string name = names[static_cast<std::size_t>(left)] + names[static_cast<std::size_t>(right)];
    const auto known = std::find(names.begin(), names.end(), name);
    const auto id = static_cast<std::int32_t>(known - names.begin());
    if (known == names.end()) names.push_back(name);
    merges.push_back({left, right, id, static_cast<std::int32_t>(merges.size())});
    for (auto& [ids, count] : words) {
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
        if (ids[i] != left || ids[i + 1] != right) continue;
        ids[i] = id;
        ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
  }
  return merges;
}

std::string text_of_words(std::uint64_t seed, std::size_t words) {
  const RandomStream random(seed, "words");
  std::string text;
  for (std::size_t i = 0; i < words; ++i) {
    const std::uint64_t r = random.below(i, 400);
    text += fmt::format("{}{}{}", "abcde"[r % 5], r < 200 ? "ing" : "tion", r % 7 == 0 ? ".\n" : " ");
    if (r % 50 == 0) text += fmt::format("{} \u00e9\u4f60 ", r);
  }
  return text;
}

}  // namespace

TEST_CASE("merges are those of a trainer that counts everything every time", "[tokenizer]") {
  const RandomStream random(3, "pieces");
  for (std::uint64_t n = 0; n < 20; ++n) {
    PieceCounts pieces;
    for (std::uint64_t i = 0; i < 40; ++i) {
      std::string piece;
      const std::uint64_t size = 1 + random.below(1000 * n + i, 9);
      for (std::uint64_t k = 0; k < size; ++k) piece += "aab"[random.below(100'000 * n + 100 * i + k, 3)];
      pieces[piece] += 1 + static_cast<std::int64_t>(i % 4);
    }
    const TrainedBpe trained = train_bpe(pieces, {.tokens = 290, .min_frequency = 3, .never = {}});
    CHECK(trained.merges == plain_trainer(pieces, 290, 3));
    CHECK(!trained.merges.empty());
  }
}

TEST_CASE("a tokenizer is trained, written, read and the same on any number of threads", "[tokenizer]") {
  const TempDir dir;
  // More than one thread's share, in two files.
  write_bytes(dir / "a.txt", text_of_words(1, 120'000));
  write_bytes(dir / "b.txt", text_of_words(2, 1000));
  TrainTokenizerOptions options;
  options.inputs = {dir / "a.txt", dir / "b.txt"};
  options.vocab_size = 296;
  options.specials = {"<|endoftext|>", "<|x|>"};
  for (const char* pre_tokenizer : {"gpt2", "llama3", "deepseek"}) {
    options.pre_tokenizer = pre_tokenizer;
    std::vector<std::string> files;
    for (const int threads : {1, 2, 5}) {
      options.threads = threads;
      options.output = dir / fmt::format("{}-{}.json", pre_tokenizer, threads);
      const TrainTokenizerSummary summary = train_tokenizer(options);
      files.push_back(read_bytes(options.output));
      CHECK(files.back() == files.front());
      CHECK(summary.vocab_size == 296);
      const auto tokenizer = load_tokenizer(options.output);
      CHECK(tokenizer->vocab_size() == 296);
      CHECK(tokenizer->separator() == 294);
      std::size_t ids = 0;
      for (const std::string& path : options.inputs) {
        const Ids encoded = tokenizer->encode(read_bytes(path));
        CHECK(tokenizer->decode(encoded) == read_bytes(path));
        ids += encoded.size();
      }
      CHECK(static_cast<std::int64_t>(ids) == summary.tokens);
    }
  }
  options.specials_place = TrainTokenizerOptions::Place::kFirst;
  train_tokenizer(options);
  CHECK(load_tokenizer(options.output)->separator() == 0);
  const std::string every_byte = "\x01\x7f \u00e9\u0800\U0001f642";
  CHECK(load_tokenizer(options.output)->decode(load_tokenizer(options.output)->encode(every_byte)) ==
        every_byte);
}

TEST_CASE("no token becomes a special one, and impossible wishes are refused", "[tokenizer]") {
  const TempDir dir;
  write_bytes(dir / "a.txt", "abab abab abab");
  TrainTokenizerOptions options;
  options.inputs = {dir / "a.txt"};
  options.output = dir / "t.json";
  options.vocab_size = 400;
  options.specials = {"ab"};
  CHECK(train_tokenizer(options).vocab_size < 400);
  CHECK(load_tokenizer(options.output)->encode("ab").size() == 2);

  const auto refused = [&](ExitCode code, const std::string& what) {
    CHECK(contains(message_of(code, [&] { train_tokenizer(options); }), what));
  };
  options.vocab_size = 256;
  refused(ExitCode::kUsage, "the 256 bytes and 1 special tokens are 257");
  options.vocab_size = 300;
  options.specials = {"x", "x"};
  refused(ExitCode::kUsage, "twice");
  options.specials = {};
  options.pre_tokenizer = "words";
  refused(ExitCode::kUsage, "'words'");
  options.pre_tokenizer = "gpt2";
  options.output = dir / "a.txt";
  refused(ExitCode::kUsage, "a.txt");
  options.output = dir / "t.json";
  write_bytes(dir / "a.txt", "");
  refused(ExitCode::kData, "no text");
}

}  // namespace jevons
