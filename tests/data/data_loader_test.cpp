#include "data/data_loader.h"

#include <algorithm>
#include <numeric>
#include <thread>

#include "data/prefetcher.h"
#include "tests/data/temp_files.h"

namespace jevons {
namespace {

constexpr std::int64_t kVocab = 1 << 20;

struct Batch {
  std::vector<std::int32_t> tokens, targets, doc_start;
  bool operator==(const Batch&) const = default;
};

Batch read(const DataLoader& loader, Split split, std::uint64_t first, std::size_t n, std::int64_t seq_len) {
  const std::size_t size = n * static_cast<std::size_t>(seq_len);
  Batch b{std::vector<std::int32_t>(size, -5), std::vector<std::int32_t>(size, -5),
          std::vector<std::int32_t>(size, -5)};
  loader.read(split, first, {b.tokens, b.targets, b.doc_start});
  return b;
}

// One source whose token at position p has id p.
struct CountingSource {
  TempDir dir;
  DataConfig config;

  explicit CountingSource(std::int32_t tokens, std::int64_t seq_len = 8) {
    write_pair(dir / "t", TokenDType::kI32, {counting(0, tokens)});
    config.train = {{dir / "t", 1}};
    config.seq_len = seq_len;
    config.seed = 42;
  }
};

}  // namespace

TEST_CASE("A sample is consecutive tokens and the next ones as targets", "[data_loader]") {
  const CountingSource source(1000);
  const DataLoader loader(source.config, kVocab);
  const Batch batch = read(loader, Split::kTrain, 5, 20, 8);
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
    CHECK(batch.targets[i] == batch.tokens[i] + 1);
    CHECK(batch.doc_start[i] == 0);
    if (i % 8 != 0) CHECK(batch.tokens[i] == batch.tokens[i - 1] + 1);
  }
}

TEST_CASE("A batch depends on seed and sample index alone", "[data_loader]") {
  CountingSource source(1000);
  const DataLoader loader(source.config, kVocab), again(source.config, kVocab);
  const Batch whole = read(loader, Split::kTrain, 0, 300, 8);  // over two epochs
  for (const std::size_t chunk : {std::size_t{1}, std::size_t{7}, std::size_t{100}}) {
    for (std::size_t done = 300; done > 0;) {  // backwards
      const std::size_t n = std::min(chunk, done);
      done -= n;
      const Batch part = read(again, Split::kTrain, done, n, 8);
      const auto at = static_cast<std::ptrdiff_t>(done) * 8;
      CHECK(std::equal(part.tokens.begin(), part.tokens.end(), whole.tokens.begin() + at));
      CHECK(std::equal(part.targets.begin(), part.targets.end(), whole.targets.begin() + at));
    }
  }
  source.config.seed = 43;
  CHECK(read(DataLoader(source.config, kVocab), Split::kTrain, 0, 300, 8).tokens != whole.tokens);
}

TEST_CASE("An epoch visits every training token once", "[data_loader]") {
  const std::int32_t tokens = GENERATE(1009, 1010, 1016);
  CountingSource source(tokens);
  source.config.validation_fraction = 0.1;
  const DataLoader loader(source.config, kVocab);
  const std::int32_t train_tokens = tokens - tokens / 10;
  const auto samples = static_cast<std::size_t>(loader.train_samples_per_epoch());
  CHECK(samples == static_cast<std::size_t>(train_tokens - 1) / 8);

  std::vector<std::vector<std::int32_t>> epochs;
  std::vector<int> ever(static_cast<std::size_t>(train_tokens));
  for (std::size_t epoch = 0; epoch < 30; ++epoch) {
    const Batch batch = read(loader, Split::kTrain, epoch * samples, samples, 8);
    std::vector<int> visits(ever.size());
    for (const std::int32_t id : batch.tokens) ++visits.at(static_cast<std::size_t>(id));
    for (const std::int32_t id : batch.targets) REQUIRE(id < train_tokens);
    CHECK(*std::max_element(visits.begin(), visits.end()) == 1);
    CHECK(std::accumulate(visits.begin(), visits.end(), 0) == static_cast<int>(samples) * 8);
    for (std::size_t i = 0; i < ever.size(); ++i) ever[i] += visits[i];
    epochs.push_back(batch.tokens);
  }
  CHECK(epochs[0] != epochs[1]);
  // Over many epochs the left-over tokens have their turn too; the very last token is never an input.
  CHECK(std::count(ever.begin(), ever.end() - 1, 0) == 0);
}

TEST_CASE("Train and validation share no token", "[data_loader]") {
  for (const double fraction : {0.01, 0.1, 0.5}) {
    CountingSource source(2000);
    source.config.validation_fraction = fraction;
    const DataLoader loader(source.config, kVocab);
    const Batch train = read(loader, Split::kTrain, 0, 600, 8);
    const auto n = static_cast<std::size_t>(loader.validation_samples());
    REQUIRE(n > 0);
    const Batch validation = read(loader, Split::kValidation, 0, n, 8);
    const auto border = static_cast<std::int32_t>(2000 - 2000 * fraction);
    CHECK(*std::max_element(train.targets.begin(), train.targets.end()) < border);
    CHECK(validation.tokens.front() == border);  // file order
    CHECK(validation.tokens == counting(border, border + static_cast<std::int32_t>(n) * 8));
    CHECK_THROWS_AS(read(loader, Split::kValidation, n, 1, 8), Error);
  }
}

TEST_CASE("Explicit validation sources leave the train sources whole", "[data_loader]") {
  CountingSource source(81);
  write_pair(source.dir / "v", TokenDType::kI32, {counting(5000, 5020)});
  write_pair(source.dir / "w", TokenDType::kI32, {counting(6000, 6017)});
  source.config.validation = {{source.dir / "v", 1}, {source.dir / "w", 1}};
  const DataLoader loader(source.config, kVocab);
  CHECK(loader.train_samples_per_epoch() == 10);
  CHECK(loader.validation_samples() == 4);
  const Batch batch = read(loader, Split::kValidation, 1, 2, 8);
  CHECK(batch.tokens[0] == 5008);
  CHECK(batch.tokens[8] == 6000);
}

TEST_CASE("Without held-out tokens there is no validation", "[data_loader]") {
  CountingSource source(100);
  source.config.validation_fraction = 0;
  CHECK(DataLoader(source.config, kVocab).validation_samples() == 0);
  CHECK(DataLoader(source.config, kVocab).sources(Split::kValidation).empty());
  source.config.validation_fraction = 0.05;  // 5 tokens: less than a sample
  CHECK(DataLoader(source.config, kVocab).validation_samples() == 0);
}

TEST_CASE("Blended sources keep their shares and count their own epochs", "[data_loader]") {
  TempDir dir;
  write_pair(dir / "a", TokenDType::kI32, {counting(0, 801)});
  write_pair(dir / "b", TokenDType::kI32, {counting(10000, 10081)});
  DataConfig config;
  config.train = {{dir / "a", 3}, {dir / "b", 1}};
  config.validation_fraction = 0;
  config.seq_len = 8;
  const DataLoader loader(config, kVocab);
  CHECK(loader.train_samples_per_epoch() == 110);
  const Batch batch = read(loader, Split::kTrain, 0, 4000, 8);
  std::vector<std::int32_t> from_b;  // first tokens
  for (std::size_t i = 0; i < batch.tokens.size(); i += 8)
    if (batch.tokens[i] >= 10000) from_b.push_back(batch.tokens[i]);
  CHECK(from_b.size() >= 998);
  CHECK(from_b.size() <= 1002);
  for (std::size_t epoch = 0; epoch + 10 <= from_b.size(); epoch += 10) {
    std::vector<std::int32_t> pass(from_b.begin() + static_cast<std::ptrdiff_t>(epoch),
                                   from_b.begin() + static_cast<std::ptrdiff_t>(epoch + 10));
    std::sort(pass.begin(), pass.end());
    CHECK(std::adjacent_find(pass.begin(), pass.end()) == pass.end());
    CHECK(pass.front() == 10000);
    CHECK(pass.back() == 10072);
  }
}

TEST_CASE("The document mask cuts rows at document borders", "[data_loader]") {
  TempDir dir;
  // Documents end with a 0. Borders: 5, 5 (an empty document), 8, 16.
  write_pair(
      dir / "t", TokenDType::kU8,
      {{1, 2, 3, 4, 0}, {}, {5, 6, 0}, {11, 12, 13, 14, 15, 16, 17, 0}, {21, 22, 23, 24, 25, 26, 27, 28, 0}});
  DataConfig config;
  config.train = {{dir / "t", 1}};
  config.validation = config.train;  // read in file order
  config.seq_len = 8;
  config.document_mask = true;
  const Batch b = read(DataLoader(config, 256), Split::kValidation, 0, 3, 8);
  CHECK(b.tokens == std::vector<std::int32_t>{1,  2,  3,  4, 0,  5,  6,  0,  11, 12, 13, 14,
                                              15, 16, 17, 0, 21, 22, 23, 24, 25, 26, 27, 28});
  CHECK(b.targets == std::vector<std::int32_t>{2,  3,  4, 0,  -1, 6,  0,  -1, 12, 13, 14, 15,
                                               16, 17, 0, -1, 22, 23, 24, 25, 26, 27, 28, 0});
  CHECK(b.doc_start ==
        std::vector<std::int32_t>{0, 0, 0, 0, 0, 5, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  config.document_mask = false;
  const Batch plain = read(DataLoader(config, 256), Split::kValidation, 0, 3, 8);
  CHECK(plain.tokens == b.tokens);
  CHECK(plain.targets[4] == 5);
  CHECK(plain.targets[7] == 11);
  CHECK(std::count(plain.doc_start.begin(), plain.doc_start.end(), 0) == 24);
}

TEST_CASE("The document mask agrees with a walk over the documents", "[data_loader]") {
  TempDir dir;
  std::vector<std::vector<std::int32_t>> documents;
  std::vector<std::int32_t> document_of;  // (tokens)
  for (std::int32_t d = 0; d < 200; ++d) {
    const std::int32_t length = d * 37 % 23;
    documents.push_back(counting(static_cast<std::int32_t>(document_of.size()),
                                 static_cast<std::int32_t>(document_of.size()) + length));
    document_of.insert(document_of.end(), static_cast<std::size_t>(length), d);
  }
  write_pair(dir / "t", TokenDType::kI32, documents);
  DataConfig config;
  config.train = {{dir / "t", 1}};
  config.validation_fraction = 0;
  config.seq_len = 16;
  config.document_mask = true;
  const Batch b = read(DataLoader(config, kVocab), Split::kTrain, 0, 200, 16);
  for (std::size_t row = 0; row < 200; ++row) {
    const auto document = [&](std::size_t position) {
      return document_of[static_cast<std::size_t>(b.tokens[row * 16]) + position];
    };
    for (std::size_t p = 0; p < 16; ++p) {
      const std::size_t i = row * 16 + p;
      std::size_t start = p;
      while (start > 0 && document(start - 1) == document(p)) --start;
      CHECK(b.doc_start[i] == static_cast<std::int32_t>(start));
      CHECK(b.targets[i] == (document(p + 1) == document(p) ? b.tokens[i] + 1 : -1));
    }
  }
}

TEST_CASE("Prefetch changes nothing and ends with its loader", "[data_loader]") {
  const CountingSource source(200'000, 256);
  const DataLoader plain(source.config, kVocab);
  for (int round = 0; round < 20; ++round) {
    DataLoader loader(source.config, kVocab);
    for (std::uint64_t step = 0; step < 10; ++step) {
      loader.prefetch(step * 4, 1000);
      if (round % 2 == 0)
        CHECK(read(loader, Split::kTrain, step * 4, 4, 256) == read(plain, Split::kTrain, step * 4, 4, 256));
    }
  }
}

TEST_CASE("A prefetcher loads what was asked for last", "[data_loader]") {
  std::vector<std::uint64_t> loaded;
  {
    Prefetcher prefetcher([&](std::uint64_t sample) { loaded.push_back(sample); });
    prefetcher.wait();  // nothing to wait for
    prefetcher.request(10, 3);
    prefetcher.wait();
    CHECK(loaded == std::vector<std::uint64_t>{10, 11, 12});
    prefetcher.request(5, 1);
    prefetcher.wait();
    CHECK(loaded.back() == 5);
    prefetcher.request(100,
                       std::uint64_t{1} << 40);  // more than can be done: the destructor must not wait for it
  }
  CHECK(loaded.size() < 10'000'000);
}

TEST_CASE("Several threads may read at once", "[data_loader]") {
  const CountingSource source(5000);
  DataLoader loader(source.config, kVocab);
  const Batch expected = read(loader, Split::kTrain, 0, 64, 8);
  std::vector<Batch> got(4);
  loader.prefetch(0, 64);
  std::vector<std::thread> threads;
  for (Batch& batch : got) threads.emplace_back([&] { batch = read(loader, Split::kTrain, 0, 64, 8); });
  for (std::thread& thread : threads) thread.join();
  for (const Batch& batch : got) CHECK(batch == expected);
}

TEST_CASE("A fingerprint identifies the data, not the configuration", "[data_loader]") {
  CountingSource source(1000);
  const auto fingerprint = [&] { return DataLoader(source.config, kVocab).fingerprint(); };
  const std::string base = fingerprint();
  CHECK(base.size() == 16);
  CHECK(base == fingerprint());
  source.config.seed = 7;
  CHECK(base == fingerprint());
  source.config.train.push_back(source.config.train[0]);
  CHECK(base != fingerprint());
  source.config.train.pop_back();

  std::string bytes = read_bytes(source.dir / "t.bin");
  bytes[2000] ^= 1;
  write_bytes(source.dir / "t.bin", bytes);
  CHECK(base != fingerprint());
}

TEST_CASE("The order of the samples is the one of every release", "[data_loader]") {
  // First tokens of samples, as recorded from version 0.1.0: going on with a run needs them unchanged.
  TempDir dir;
  write_pair(dir / "a", TokenDType::kI32, {counting(0, 1003)});
  write_pair(dir / "b", TokenDType::kI32, {counting(10000, 10510)});
  DataConfig config;
  config.train = {{dir / "a", 3}, {dir / "b", 1}};
  config.validation_fraction = 0.1;
  config.seq_len = 8;
  config.seed = 42;
  const DataLoader loader(config, kVocab);
  std::vector<std::int32_t> first;
  for (std::uint64_t sample : {0, 1, 2, 3, 4, 5, 6, 7, 1000, 1001, 70000, 70001}) {
    first.push_back(read(loader, Split::kTrain, sample, 1, 8).tokens[0]);
  }
  CHECK(first == std::vector<std::int32_t>{10362, 894, 478, 342, 694, 566, 10274, 182, 874, 10410, 454, 702});
  CHECK(read(loader, Split::kValidation, 12, 1, 8).tokens[0] == 10459);
  CHECK(loader.fingerprint() == "dd8d1071be299b0a");
}

TEST_CASE("A pattern makes the files that it matches one source", "[data_loader]") {
  TempDir dir;
  std::filesystem::create_directory(dir / "shard-dir.bin");
  write_pair(dir / "shard-10", TokenDType::kI32, {counting(2000, 2081)});
  write_pair(dir / "shard-2", TokenDType::kI32, {counting(3000, 3041)});
  write_pair(dir / "shard-1", TokenDType::kI32, {counting(1000, 1161)});
  write_bytes(dir / "shard-1.txt", "text that was prepared");
  DataConfig config;
  config.train = {{dir / "shard-*", 1}};
  config.validation_fraction = 0;
  config.seq_len = 8;
  const DataLoader loader(config, kVocab);
  const std::vector<SourceFacts> facts = loader.sources(Split::kTrain);
  REQUIRE(facts.size() == 1);
  CHECK(facts[0].name == dir / "shard-*");
  CHECK(facts[0].files == 3);
  CHECK(facts[0].tokens == 283);
  CHECK(facts[0].samples == 35);
  CHECK(facts[0].share == 1);

  // Both epochs have every sample once, in an order over all files.
  for (std::uint64_t epoch = 0; epoch < 2; ++epoch) {
    const Batch batch = read(loader, Split::kTrain, epoch * 35, 35, 8);
    std::vector<std::int32_t> firsts;
    for (std::size_t i = 0; i < batch.tokens.size(); i += 8) {
      firsts.push_back(batch.tokens[i]);
      CHECK(std::vector<std::int32_t>(batch.tokens.begin() + static_cast<std::ptrdiff_t>(i),
                                      batch.tokens.begin() + static_cast<std::ptrdiff_t>(i) + 8) ==
            counting(batch.tokens[i], batch.tokens[i] + 8));
    }
    CHECK(!std::is_sorted(firsts.begin(), firsts.end()));
    std::sort(firsts.begin(), firsts.end());
    CHECK(std::adjacent_find(firsts.begin(), firsts.end()) == firsts.end());
    CHECK(std::count_if(firsts.begin(), firsts.end(), [](auto id) { return id < 2000; }) == 20);
    CHECK(std::count_if(firsts.begin(), firsts.end(), [](auto id) { return id >= 3000; }) == 5);
  }

  // Names in byte order, whatever the order on disk; a file more is other data.
  config.validation = {{dir / "shard-?", 1}};
  const Batch files = read(DataLoader(config, kVocab), Split::kValidation, 19, 2, 8);
  CHECK(files.tokens[0] == 1152);
  CHECK(files.tokens[8] == 3000);
  config.validation.clear();
  const std::string before = loader.fingerprint();
  CHECK(DataLoader(config, kVocab).fingerprint() == before);
  write_pair(dir / "shard-3", TokenDType::kI32, {counting(4000, 4041)});
  CHECK(DataLoader(config, kVocab).fingerprint() != before);

  config.train = {{dir / "chard-*", 1}};
  const std::string message = message_of(ExitCode::kData, [&] { DataLoader nothing(config, kVocab); });
  CHECK(contains(message, "chard-*' matches no token file"));
}

TEST_CASE("A path that has a wildcard and is there is no pattern", "[data_loader]") {
  TempDir dir;
  write_pair(dir / "a[1]", TokenDType::kI32, {counting(0, 100)});
  write_pair(dir / "a1", TokenDType::kI32, {counting(500, 600)});
  DataConfig config;
  config.train = {{dir / "a[1]", 1}};
  config.seq_len = 8;
  CHECK(read(DataLoader(config, kVocab), Split::kTrain, 0, 1, 8).tokens[0] < 100);
}

TEST_CASE("Weights by size are the tokens of the sources", "[data_loader]") {
  TempDir dir;
  write_pair(dir / "a", TokenDType::kI32, {counting(0, 3000)});
  write_pair(dir / "b", TokenDType::kI32, {counting(10000, 11000)});
  DataConfig config;
  config.train = {{dir / "a", DataSource::kBySize}, {dir / "b", DataSource::kBySize}};
  config.validation_fraction = 0;
  config.seq_len = 8;
  const DataLoader by_size(config, kVocab);
  CHECK(by_size.sources(Split::kTrain)[0].share == 0.75);
  config.train[0].weight = 3000, config.train[1].weight = 1000;
  CHECK(read(by_size, Split::kTrain, 0, 500, 8) ==
        read(DataLoader(config, kVocab), Split::kTrain, 0, 500, 8));
  config.train[1].weight = DataSource::kBySize;
  CHECK(contains(message_of(ExitCode::kUsage, [&] { DataLoader mixed(config, kVocab); }),
                 "all of them or none"));
  config.train[1].weight = 1e308, config.train[0].weight = 1e308;
  CHECK(contains(message_of(ExitCode::kUsage, [&] { DataLoader mixed(config, kVocab); }), "no finite sum"));
}

TEST_CASE("The samples of each source are known beforehand", "[data_loader]") {
  TempDir dir;
  write_pair(dir / "a", TokenDType::kI32, {counting(0, 801)});
  write_pair(dir / "b", TokenDType::kI32, {counting(10000, 10081)});
  DataConfig config;
  config.train = {{dir / "a", 3}, {dir / "b", 1}};
  config.seq_len = 8;
  const DataLoader loader(config, kVocab);
  for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{777}, std::size_t{66'000}}) {
    const Batch batch = read(loader, Split::kTrain, 0, n, 8);
    std::uint64_t of_b = 0;
    for (std::size_t i = 0; i < batch.tokens.size(); i += 8) of_b += batch.tokens[i] >= 10000 ? 1 : 0;
    CHECK(loader.train_samples_by_source(n) == std::vector<std::uint64_t>{n - of_b, of_b});
  }
}

TEST_CASE("A part of the validation data is spread over its sources", "[data_loader]") {
  TempDir dir;
  write_pair(dir / "a-1", TokenDType::kI32, {counting(0, 401)});      // 50 samples
  write_pair(dir / "a-2", TokenDType::kI32, {counting(1000, 1201)});  // 25
  write_pair(dir / "b", TokenDType::kI32, {counting(10000, 10801)});  // 100
  write_pair(dir / "c", TokenDType::kI32, {counting(20000, 20005)});  // none
  DataConfig config;
  config.train = {{dir / "b", 1}};
  config.validation = {{dir / "a-*", 1}, {dir / "b", 1}, {dir / "c", 1}};
  config.seq_len = 8;
  const auto counts = [&](std::int64_t limit) {
    std::vector<std::size_t> counts;
    for (const auto& samples : DataLoader(config, kVocab).validation_selection(limit))
      counts.push_back(samples.size());
    return counts;
  };
  CHECK(counts(0) == std::vector<std::size_t>{75, 100, 0});
  CHECK(counts(1000) == std::vector<std::size_t>{75, 100, 0});
  CHECK(counts(50) == std::vector<std::size_t>{25, 25, 0});
  CHECK(counts(170) == std::vector<std::size_t>{75, 95, 0});  // what the first lacks comes from the second
  CHECK(counts(1) == std::vector<std::size_t>{1, 1, 0});      // none is left out
  config.validation[0].weight = 4;
  CHECK(counts(50) == std::vector<std::size_t>{40, 10, 0});
  for (DataSource& source : config.validation) source.weight = DataSource::kBySize;
  CHECK(counts(35) == std::vector<std::size_t>{15, 20, 0});

  const DataLoader loader(config, kVocab);
  std::vector<std::int32_t> firsts;
  const auto selection = loader.validation_selection(7);
  for (const std::uint64_t sample : selection[0]) {
    firsts.push_back(read(loader, Split::kValidation, sample, 1, 8).tokens[0]);
  }
  CHECK(firsts == std::vector<std::int32_t>{0, 8, 1000});  // both files
  CHECK(loader.sources(Split::kValidation)[2].samples == 0);
}

TEST_CASE("The tails of several files and sources are validated", "[data_loader]") {
  TempDir dir;
  write_pair(dir / "a-1", TokenDType::kI32, {counting(0, 200)});
  write_pair(dir / "a-2", TokenDType::kI32, {counting(1000, 1400)});
  write_pair(dir / "b", TokenDType::kI32, {counting(10000, 10050)});
  DataConfig config;
  config.train = {{dir / "a-*", 3}, {dir / "b", 1}};
  config.validation_fraction = 0.1;
  config.seq_len = 8;
  const DataLoader loader(config, kVocab);
  const std::vector<SourceFacts> facts = loader.sources(Split::kValidation);
  REQUIRE(facts.size() == 2);
  CHECK(facts[0].tokens == 60);
  CHECK(facts[0].samples == 2 + 4);
  CHECK(facts[0].share == 0.75);
  CHECK(facts[1].tokens == 5);
  CHECK(facts[1].samples == 0);  // which a run says
  const Batch batch = read(loader, Split::kValidation, 0, 6, 8);
  CHECK(batch.tokens[0] == 180);
  CHECK(batch.tokens[16] == 1360);
  for (const std::int32_t id : read(loader, Split::kTrain, 0, 500, 8).targets) {
    REQUIRE((id < 180 || (id >= 1000 && id < 1360) || (id >= 10000 && id < 10045)));
  }
}

TEST_CASE("A fingerprint tells validations that can be compared", "[data_loader]") {
  CountingSource source(1000);
  write_pair(source.dir / "v", TokenDType::kI32, {counting(5000, 5100)});
  write_pair(source.dir / "w", TokenDType::kI32, {counting(6000, 6100)});
  DataConfig& config = source.config;
  config.validation = {{source.dir / "v", 1}, {source.dir / "w", 1}};
  const auto fingerprint = [&](std::int64_t limit) {
    return DataLoader(config, kVocab).validation_fingerprint(limit);
  };
  const std::string base = fingerprint(0);
  CHECK(base.size() == 16);
  CHECK(fingerprint(24) == base);  // all there is
  CHECK(fingerprint(23) != base);
  config.seed = 9, config.train[0].weight = 7;
  CHECK(fingerprint(0) == base);
  config.validation[0].weight = config.validation[1].weight = 2;
  CHECK(fingerprint(0) == base);  // the same shares
  config.validation[0].weight = 3;
  CHECK(fingerprint(0) != base);
  config.validation.clear();
  const std::string tail = fingerprint(0);
  CHECK(tail != base);
  config.validation_fraction = 0.02;
  CHECK(fingerprint(0) != tail);
}

TEST_CASE("Bytes per token are known for byte tokens", "[data_loader]") {
  TempDir dir;
  DataConfig config;
  config.seq_len = 4;
  config.validation_fraction = 0.5;
  write_pair(dir / "b", TokenDType::kU8, {counting(0, 200)});
  write_pair(dir / "w", TokenDType::kU16, {counting(0, 200)});
  config.train = {{dir / "b", 1}};
  CHECK(DataLoader(config, 256).sources(Split::kValidation)[0].bytes_per_token == 1);
  config.train.push_back({dir / "w", 1});
  const auto facts = DataLoader(config, 256).sources(Split::kValidation);
  CHECK(facts[0].bytes_per_token == 1);
  CHECK_FALSE(facts[1].bytes_per_token);
}

TEST_CASE("What cannot be read is an error with a name", "[data_loader]") {
  CountingSource source(1000);
  const auto error = [&](ExitCode code, auto change) {
    DataConfig config = source.config;
    change(config);
    return message_of(code, [&] { DataLoader loader(config, kVocab); });
  };
  CHECK(contains(error(ExitCode::kUsage, [](DataConfig& c) { c.train.clear(); }), "no train source"));
  CHECK(contains(error(ExitCode::kUsage, [](DataConfig& c) { c.train[0].weight = 0; }), "weight 0"));
  CHECK(contains(error(ExitCode::kUsage, [](DataConfig& c) { c.validation_fraction = 1; }), "[0, 1)"));
  CHECK(contains(error(ExitCode::kData, [](DataConfig& c) { c.train[0].path += "x"; }), "tx.idx"));
  CHECK(contains(error(ExitCode::kData, [](DataConfig& c) { c.seq_len = 990; }),
                 "990 train tokens are not enough"));
  error(ExitCode::kFailure, [](DataConfig& c) { c.seq_len = 0; });

  const DataLoader small_vocabulary(source.config, 900);
  CHECK(contains(message_of(ExitCode::kData, [&] { read(small_vocabulary, Split::kTrain, 0, 123, 8); }),
                 "outside the vocabulary of 900"));
}

TEST_CASE("llm.c files train, but have no documents to mask", "[data_loader]") {
  TempDir dir;
  std::vector<std::int32_t> header(256);
  header[0] = 20240520, header[1] = 1, header[2] = 100;
  std::string bytes(reinterpret_cast<char*>(header.data()), 1024);
  for (std::uint16_t id = 0; id < 100; ++id) bytes.append(reinterpret_cast<char*>(&id), 2);
  write_bytes(dir / "t.bin", bytes);
  DataConfig config;
  config.train = {{dir / "t.bin", 1}};
  config.seq_len = 8;
  const Batch b = read(DataLoader(config, 100), Split::kTrain, 3, 1, 8);
  CHECK(b.targets[7] == b.tokens[0] + 8);
  config.document_mask = true;
  CHECK(
      contains(message_of(ExitCode::kData, [&] { DataLoader loader(config, 100); }), "document_mask needs"));
}

}  // namespace jevons
