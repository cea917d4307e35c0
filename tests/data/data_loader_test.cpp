// Samples, epochs, document masks and prefetch of one source.
#include "data/data_loader.h"

#include <algorithm>
#include <numeric>
#include <thread>

#include "data/prefetcher.h"
#include "tests/data/loader_bed.h"

namespace jevons {

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
  error(ExitCode::kFailure, [](DataConfig& c) { c.train.clear(); });
  error(ExitCode::kFailure, [](DataConfig& c) { c.train[0].weight = 0; });
  error(ExitCode::kFailure, [](DataConfig& c) { c.validation_fraction = 1; });
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
