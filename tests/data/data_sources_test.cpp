// Several sources: blends, patterns, weights, and what is held out of them for validation.
#include <algorithm>

#include "tests/data/loader_bed.h"

namespace jevons {

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
  CHECK(contains(message_of(ExitCode::kFailure, [&] { DataLoader mixed(config, kVocab); }),
                 "1 of 2 sources have a weight by size"));
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

}  // namespace jevons
