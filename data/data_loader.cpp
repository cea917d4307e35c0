#include "data/data_loader.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <cmath>
#include <limits>
#include <optional>

#include "data/blend.h"
#include "data/prefetcher.h"
#include "data/shuffle.h"
#include "data/token_range.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/rng.h"

namespace jevons {

struct DataLoader::Impl {
  DataConfig config;
  std::int64_t vocab_size = 0;
  std::vector<TokenRange> train, validation;
  std::optional<Blend> blend;
  std::optional<Prefetcher> prefetcher;  // started by the first request; last: its thread reads the rest

  Impl(const DataConfig& config, std::int64_t vocab_size);

  // The file and first input token of a sample.
  struct Place {
    const TokenFile* file;
    std::int64_t start;
  };
  Place train_sample(std::uint64_t sample) const;
  Place validation_sample(std::uint64_t sample) const;
  void load(std::uint64_t train_sample) const;
};

namespace {

void check(const DataConfig& config, std::int64_t vocab_size) {
  ENSURE(config.seq_len > 0 && config.seq_len < std::numeric_limits<std::int32_t>::max(), "seq_len {}",
         config.seq_len);
  ENSURE(vocab_size > 0, "vocab_size {}", vocab_size);
  if (config.train.empty()) fail(ExitCode::kUsage, "no train source is given");
  if (!(config.validation_fraction >= 0 && config.validation_fraction < 1))
    fail(ExitCode::kUsage, "validation_fraction {} is not in [0, 1)", config.validation_fraction);
  for (const DataSource& source : config.train)
    if (!(std::isfinite(source.weight) && source.weight > 0))
      fail(ExitCode::kUsage, "train source '{}' has weight {}; weights are > 0", source.path, source.weight);
}

std::shared_ptr<const TokenFile> open_source(const DataSource& source, const DataConfig& config) {
  auto file = std::make_shared<const TokenFile>(source.path);
  if (config.document_mask && file->index() == nullptr)
    fail(ExitCode::kData,
         "{}: document_mask needs a .bin/.idx pair: an llm.c file does not record its documents",
         file->path());
  return file;
}

std::int64_t held_out_tokens(const TokenFile& file, const DataConfig& config) {
  if (!config.validation.empty()) return 0;
  return static_cast<std::int64_t>(static_cast<double>(file.num_tokens()) * config.validation_fraction);
}

std::int64_t total_samples(const std::vector<TokenRange>& ranges) {
  std::int64_t total = 0;
  for (const TokenRange& range : ranges) total += range.samples();
  return total;
}

std::vector<double> weights_of(const std::vector<DataSource>& sources) {
  std::vector<double> weights;
  for (const DataSource& source : sources) weights.push_back(source.weight);
  return weights;
}

}  // namespace

DataLoader::Impl::Impl(const DataConfig& data_config, std::int64_t vocabulary)
    : config(data_config), vocab_size(vocabulary) {
  check(config, vocab_size);
  for (const DataSource& source : config.train) {
    const auto file = open_source(source, config);
    const std::int64_t end = file->num_tokens();
    const std::int64_t border = end - held_out_tokens(*file, config);
    train.push_back({file, 0, border, config.seq_len});
    if (train.back().samples() == 0)
      fail(ExitCode::kData, "{}: {} train tokens are not enough for one sample of seq_len + 1 = {}",
           file->path(), border, config.seq_len + 1);
    if (border < end) validation.push_back({file, border, end, config.seq_len});
  }
  for (const DataSource& source : config.validation) {
    const auto file = open_source(source, config);
    validation.push_back({file, 0, file->num_tokens(), config.seq_len});
  }
  if (!validation.empty() && total_samples(validation) == 0)
    log_warning("the validation data is shorter than one sample of {} tokens: nothing will be validated",
                config.seq_len + 1);
  blend.emplace(weights_of(config.train), config.seed);
}

DataLoader::Impl::Place DataLoader::Impl::train_sample(std::uint64_t sample) const {
  const Blend::Place place = (*blend)(sample);
  const TokenRange& range = train[place.source];
  const auto samples = static_cast<std::uint64_t>(range.samples());
  const std::uint64_t epoch = place.index / samples;
  const ShuffleKey key{config.seed, place.source, static_cast<std::uint32_t>(epoch)};
  const std::uint64_t chosen = RandomPermutation(samples, key)(place.index % samples);

  // What is left over of the range lies before the first or behind the last sample, differently every epoch.
  const RandomStream offsets(config.seed, fmt::format("data.offset.{}", place.source));
  const std::uint64_t offset = offsets.below(epoch, static_cast<std::uint64_t>(range.left_over()) + 1);
  const std::uint64_t in_range = offset + chosen * static_cast<std::uint64_t>(range.seq_len);
  return {range.file.get(), range.begin + static_cast<std::int64_t>(in_range)};
}

DataLoader::Impl::Place DataLoader::Impl::validation_sample(std::uint64_t sample) const {
  auto left = static_cast<std::int64_t>(sample);
  for (const TokenRange& range : validation) {
    if (left < range.samples()) return {range.file.get(), range.begin + left * range.seq_len};
    left -= range.samples();
  }
  fail(ExitCode::kFailure, "validation sample {} of {}", sample, total_samples(validation));
}

void DataLoader::Impl::load(std::uint64_t sample) const {
  const Place place = train_sample(sample);
  place.file->load(place.start, config.seq_len + 1);
}

DataLoader::DataLoader(const DataConfig& config, std::int64_t vocab_size)
    : impl_(std::make_unique<Impl>(config, vocab_size)) {}

DataLoader::~DataLoader() = default;

void DataLoader::read(Split split, std::uint64_t first, BatchView out) const {
  const auto seq_len = static_cast<std::size_t>(impl_->config.seq_len);
  const std::size_t size = out.tokens.size();
  ENSURE(size % seq_len == 0 && out.targets.size() == size && out.doc_start.size() == size,
         "batch of {}, {} and {} positions with seq_len {}", size, out.targets.size(), out.doc_start.size(),
         seq_len);
  const auto mask = impl_->config.document_mask ? DocumentMask::kOn : DocumentMask::kOff;
  for (std::size_t row = 0; row < size / seq_len; ++row) {
    const Impl::Place place =
        split == Split::kTrain ? impl_->train_sample(first + row) : impl_->validation_sample(first + row);
    const auto part = [&](std::span<std::int32_t> all) { return all.subspan(row * seq_len, seq_len); };
    read_row(*place.file, place.start, impl_->vocab_size, mask,
             {part(out.tokens), part(out.targets), part(out.doc_start)});
  }
}

void DataLoader::prefetch(std::uint64_t first, std::int64_t n) {
  ENSURE(n >= 0, "prefetch of {} samples", n);
  if (!impl_->prefetcher)
    impl_->prefetcher.emplace([impl = impl_.get()](std::uint64_t sample) { impl->load(sample); });
  impl_->prefetcher->request(first, static_cast<std::uint64_t>(n));
}

std::int64_t DataLoader::train_samples_per_epoch() const {
  return total_samples(impl_->train);
}

std::int64_t DataLoader::validation_samples() const {
  return total_samples(impl_->validation);
}

double DataLoader::validation_bytes_per_token() const {
  if (validation_samples() == 0) return 0;
  for (const TokenRange& range : impl_->validation)
    if (range.file->dtype() != TokenDType::kU8) return 0;
  return 1;
}

std::string DataLoader::fingerprint() const {
  std::vector<std::uint64_t> parts;
  for (const auto* ranges : {&impl_->train, &impl_->validation}) {
    parts.push_back(ranges->size());
    for (const TokenRange& range : *ranges) parts.push_back(range.file->hash(TokenFile::HashDepth::kSampled));
  }
  return fmt::format("{:016x}", XXH3_64bits(parts.data(), parts.size() * sizeof(parts[0])));
}

}  // namespace jevons
