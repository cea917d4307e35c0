#include "data/data_loader.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "data/apportion.h"
#include "data/blend.h"
#include "data/prefetcher.h"
#include "data/shuffle.h"
#include "data/source.h"
#include "data/tokenizer.h"
#include "kernels/core/error.h"
#include "kernels/core/rng.h"

namespace jevons {

struct DataLoader::Impl {
  DataConfig config;
  std::int64_t vocab_size = 0;
  std::vector<Source> train, validation;
  std::vector<double> train_weights, validation_weights;
  std::optional<TokenFacts> tokenizer;
  std::optional<Blend> blend;
  std::optional<Prefetcher> prefetcher;  // started by the first request; last: its thread reads the rest

  Impl(const DataConfig& config, std::int64_t vocab_size);
  // What is known of a file's tokens; they must be those of the other files, and of the model.
  std::optional<TokenFacts> facts_of(const TokenFile& file);
  void open_train(const DataSource& source);
  void open_validation(const DataSource& source);

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

// trainer/config judges what people ask for.
void check_weights(const std::vector<DataSource>& sources) {
  const auto by_size = [](const DataSource& source) { return source.weight == DataSource::kBySize; };
  const auto good = [&](const DataSource& source) {
    return by_size(source) || (std::isfinite(source.weight) && source.weight > 0);
  };
  ENSURE(std::all_of(sources.begin(), sources.end(), good), "weights are not all above 0");
  const auto sized = std::count_if(sources.begin(), sources.end(), by_size);
  ENSURE(sized == 0 || sized == std::ssize(sources), "{} of {} sources have a weight by size", sized,
         sources.size());
  ENSURE(sources.size() <= Blend::kMostSources, "{} sources", sources.size());
}

void check(const DataConfig& config, std::int64_t vocab_size) {
  ENSURE(config.seq_len > 0 && config.seq_len < std::numeric_limits<std::int32_t>::max(), "seq_len {}",
         config.seq_len);
  ENSURE(vocab_size > 0, "vocab_size {}", vocab_size);
  ENSURE(!config.train.empty(), "no train source");
  ENSURE(config.validation_fraction >= 0 && config.validation_fraction < 1, "validation_fraction {}",
         config.validation_fraction);
  check_weights(config.train);
  check_weights(config.validation);
}

std::shared_ptr<const TokenFile> open_file(const std::string& path, const DataConfig& config) {
  auto file = std::make_shared<const TokenFile>(path);
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

std::int64_t total_samples(const std::vector<Source>& sources) {
  std::int64_t total = 0;
  for (const Source& source : sources) total += source.samples();
  return total;
}

// Sizes in place of the weights that stand for them.
std::vector<double> resolved_weights(const std::vector<DataSource>& configured,
                                     const std::vector<Source>& sources) {
  std::vector<double> weights;
  for (std::size_t i = 0; i < configured.size(); ++i) {
    const bool by_size = configured[i].weight == DataSource::kBySize;
    weights.push_back(by_size ? static_cast<double>(sources[i].tokens()) : configured[i].weight);
  }
  return weights;
}

// Bytes of text per token of these files, one for bytes; nothing if one of them does not tell. Files of u8
// that say nothing are taken to hold bytes.
std::optional<double> bytes_per_token(const std::vector<TokenRange>& ranges) {
  double bytes = 0, tokens = 0;
  for (const TokenRange& range : ranges) {
    const auto all = static_cast<double>(range.file->num_tokens());
    const bool of_bytes =
        range.facts ? range.facts->tokenizer == kByteTokenizer : range.file->dtype() == TokenDType::kU8;
    if (!of_bytes && !range.facts) return std::nullopt;
    bytes += of_bytes ? all : static_cast<double>(range.facts->text_bytes);
    tokens += all;
  }
  return tokens > 0 ? std::optional(bytes / tokens) : std::nullopt;
}

std::string hex_hash(const std::vector<std::uint64_t>& parts) {
  return fmt::format("{:016x}", XXH3_64bits(parts.data(), parts.size() * sizeof(parts[0])));
}

}  // namespace

DataLoader::Impl::Impl(const DataConfig& data_config, std::int64_t vocabulary)
    : config(data_config), vocab_size(vocabulary) {
  check(config, vocab_size);
  for (const DataSource& source : config.train) open_train(source);
  for (const DataSource& source : config.validation) open_validation(source);
  train_weights = resolved_weights(config.train, train);
  validation_weights =
      config.validation.empty() ? train_weights : resolved_weights(config.validation, validation);
  blend.emplace(train_weights, config.seed);
}

std::optional<TokenFacts> DataLoader::Impl::facts_of(const TokenFile& file) {
  std::optional<TokenFacts> facts = read_facts(file);
  if (!facts) return facts;
  if (facts->tokenizer != kByteTokenizer && facts->vocab_size > vocab_size)
    fail(ExitCode::kUsage, "{}: its tokens are those of {}, which has {}, but model.vocab_size is {}",
         file.path(), facts->tokenizer, facts->vocab_size, vocab_size);
  if (tokenizer && tokenizer->tokenizer_hash != facts->tokenizer_hash)
    fail(ExitCode::kData, "{}: its tokens are those of {}, but those of other files are of {}", file.path(),
         facts->tokenizer, tokenizer->tokenizer);
  if (!tokenizer) tokenizer = facts;
  return facts;
}

void DataLoader::Impl::open_train(const DataSource& configured) {
  Source source(configured.path), tail(configured.path);
  for (const std::string& path : token_files_of(configured.path)) {
    const auto file = open_file(path, config);
    const auto facts = facts_of(*file);
    const std::int64_t end = file->num_tokens();
    const std::int64_t border = end - held_out_tokens(*file, config);
    source.add({file, 0, border, config.seq_len, facts});
    if (border < end) tail.add({file, border, end, config.seq_len, facts});
  }
  if (source.samples() == 0)
    fail(ExitCode::kData, "{}: {} train tokens are not enough for one sample of seq_len + 1 = {}",
         source.ranges().size() == 1 ? source.ranges()[0].file->path() : source.path(), source.tokens(),
         config.seq_len + 1);
  train.push_back(std::move(source));
  if (config.validation.empty() && config.validation_fraction > 0) validation.push_back(std::move(tail));
}

void DataLoader::Impl::open_validation(const DataSource& configured) {
  Source source(configured.path);
  for (const std::string& path : token_files_of(configured.path)) {
    const auto file = open_file(path, config);
    source.add({file, 0, file->num_tokens(), config.seq_len, facts_of(*file)});
  }
  validation.push_back(std::move(source));
}

DataLoader::Impl::Place DataLoader::Impl::train_sample(std::uint64_t sample) const {
  const Blend::Place drawn = (*blend)(sample);
  const Source& source = train[drawn.source];
  const auto samples = static_cast<std::uint64_t>(source.samples());
  const std::uint64_t epoch = drawn.index / samples;
  const ShuffleKey key{config.seed, drawn.source, static_cast<std::uint32_t>(epoch)};
  const std::uint64_t chosen = RandomPermutation(samples, key)(drawn.index % samples);
  const Source::Place place = source.place_of(static_cast<std::int64_t>(chosen));
  const TokenRange& range = source.ranges()[place.file];

  // What is left over of the range lies before the first or behind the last sample, differently every epoch.
  const RandomStream offsets(config.seed, fmt::format("data.offset.{}", drawn.source));
  const std::uint64_t draw = epoch + (static_cast<std::uint64_t>(place.file) << 32);
  const auto offset =
      static_cast<std::int64_t>(offsets.below(draw, static_cast<std::uint64_t>(range.left_over()) + 1));
  return {range.file.get(), range.begin + offset + place.sample * range.seq_len};
}

DataLoader::Impl::Place DataLoader::Impl::validation_sample(std::uint64_t sample) const {
  auto left = static_cast<std::int64_t>(sample);
  for (const Source& source : validation) {
    if (left < source.samples()) {
      const Source::Place place = source.place_of(left);
      const TokenRange& range = source.ranges()[place.file];
      return {range.file.get(), range.begin + place.sample * range.seq_len};
    }
    left -= source.samples();
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

const std::optional<TokenFacts>& DataLoader::tokenizer() const {
  return impl_->tokenizer;
}

std::vector<SourceFacts> DataLoader::sources(Split split) const {
  const bool train = split == Split::kTrain;
  const std::vector<Source>& sources = train ? impl_->train : impl_->validation;
  const std::vector<double>& weights = train ? impl_->train_weights : impl_->validation_weights;
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<SourceFacts> facts;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    SourceFacts f{.name = sources[i].path(),
                  .files = std::ssize(sources[i].ranges()),
                  .tokens = sources[i].tokens(),
                  .samples = sources[i].samples(),
                  .share = total > 0 ? weights[i] / total : 0,
                  .bytes_per_token = bytes_per_token(sources[i].ranges())};
    const auto same_path = [&](const Source& other) { return other.path() == f.name; };
    const auto twins =
        std::count_if(sources.begin(), sources.begin() + static_cast<std::ptrdiff_t>(i), same_path);
    if (twins > 0) f.name += fmt::format(" ({})", twins + 1);
    for (const TokenRange& range : sources[i].ranges()) {
      f.too_short += range.samples() == 0 ? 1 : 0;
    }
    facts.push_back(std::move(f));
  }
  return facts;
}

std::vector<std::uint64_t> DataLoader::train_samples_by_source(std::uint64_t samples) const {
  return impl_->blend->counts(samples);
}

std::vector<std::vector<std::uint64_t>> DataLoader::validation_selection(std::int64_t limit) const {
  ENSURE(limit >= 0, "a selection of {} samples", limit);
  const std::vector<Source>& sources = impl_->validation;
  std::vector<std::int64_t> available;
  for (const Source& source : sources) available.push_back(source.samples());
  std::vector<std::int64_t> counts = available;
  if (limit > 0) {
    const auto some = std::count_if(available.begin(), available.end(), [](std::int64_t n) { return n > 0; });
    counts = apportion(std::max<std::int64_t>(limit, some), impl_->validation_weights, available);
  }
  std::vector<std::vector<std::uint64_t>> selection(sources.size());
  std::uint64_t first = 0;
  for (std::size_t s = 0; s < sources.size(); ++s) {
    std::vector<std::int64_t> sizes;
    for (const TokenRange& range : sources[s].ranges()) sizes.push_back(range.samples());
    const std::vector<double> weights(sizes.begin(), sizes.end());
    const std::vector<std::int64_t> of_files = apportion(counts[s], weights, sizes);
    for (std::size_t f = 0; f < sizes.size(); ++f) {
      for (std::int64_t k = 0; k < of_files[f]; ++k)
        selection[s].push_back(first + static_cast<std::uint64_t>(k));
      first += static_cast<std::uint64_t>(sizes[f]);
    }
  }
  return selection;
}

std::string DataLoader::fingerprint() const {
  std::vector<std::uint64_t> parts;
  for (const auto* sources : {&impl_->train, &impl_->validation}) {
    const std::size_t count = parts.size();
    parts.push_back(0);
    for (const Source& source : *sources) {
      parts[count] += source.ranges().size();
      for (const TokenRange& range : source.ranges())
        parts.push_back(range.file->hash(TokenFile::HashDepth::kSampled));
    }
  }
  return hex_hash(parts);
}

std::string DataLoader::validation_fingerprint(std::int64_t limit) const {
  const auto number = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
  std::vector<std::uint64_t> parts = {number(impl_->config.seq_len), impl_->config.document_mask ? 1u : 0u};
  const std::vector<SourceFacts> facts = sources(Split::kValidation);
  const std::vector<std::vector<std::uint64_t>> selection = validation_selection(limit);
  for (std::size_t s = 0; s < facts.size(); ++s) {
    parts.push_back(std::bit_cast<std::uint64_t>(facts[s].share));
    parts.push_back(XXH3_64bits(selection[s].data(), selection[s].size() * sizeof(selection[s][0])));
    for (const TokenRange& range : impl_->validation[s].ranges()) {
      parts.insert(parts.end(), {range.file->hash(TokenFile::HashDepth::kSampled), number(range.begin),
                                 number(range.end)});
    }
  }
  return hex_hash(parts);
}

}  // namespace jevons
