#include "trainer/run/validation_set.h"

#include <algorithm>
#include <cmath>

namespace jevons {

ValidationSet::ValidationSet(const DataLoader& loader, std::int64_t limit)
    : loader_(loader),
      sources_(loader.sources(Split::kValidation)),
      samples_(loader.validation_selection(limit)) {}

bool ValidationSet::empty() const {
  return std::all_of(samples_.begin(), samples_.end(), [](const auto& samples) { return samples.empty(); });
}

void ValidationSet::fill(Worker& worker, const std::vector<std::uint64_t>& samples, std::int64_t round,
                         HostBatch& batch) const {
  const RunConfig& c = worker.config();
  const auto seq_len = static_cast<std::size_t>(c.model.seq_len);
  const BatchView view = batch.view();
  // Every worker takes part in every round; past the end its targets are masked.
  std::fill(view.targets.begin(), view.targets.end(), -1);
  const std::int64_t first = c.train.micro_batch_size * (round * worker.dp_size() + worker.dp_rank());
  for (std::int64_t row = 0; row < c.train.micro_batch_size && first + row < std::ssize(samples); ++row) {
    const auto part = [&](std::span<std::int32_t> rows) {
      return rows.subspan(static_cast<std::size_t>(row) * seq_len, seq_len);
    };
    loader_.read(Split::kValidation, samples[static_cast<std::size_t>(first + row)],
                 {part(view.tokens), part(view.targets), part(view.doc_start)});
  }
}

ValidationMetrics ValidationSet::measure(Worker& worker, std::int64_t step) const {
  const std::int64_t stride = worker.config().train.micro_batch_size * worker.dp_size();
  std::vector<SourceLoss> losses;
  for (std::size_t s = 0; s < sources_.size(); ++s) {
    SourceLoss measured{.name = sources_[s].name,
                        .share = sources_[s].share,
                        .samples = std::ssize(samples_[s]),
                        .loss = std::nullopt,
                        .bits_per_byte = std::nullopt};
    const std::int64_t rounds = (measured.samples + stride - 1) / stride;
    if (rounds > 0) {
      measured.loss = evaluate(worker, rounds, [&](std::int64_t round, HostBatch& batch) {
        fill(worker, samples_[s], round, batch);
      });
    }
    const std::optional<double> bytes = sources_[s].bytes_per_token;
    if (measured.loss && bytes) measured.bits_per_byte = *measured.loss / std::log(2.0) / *bytes;
    losses.push_back(std::move(measured));
  }
  return blend_of(std::move(losses), step);
}

ValidationMetrics blend_of(std::vector<SourceLoss> sources, std::int64_t step) {
  double total = 0, loss = 0, bits = 0;
  bool bits_known = true;
  for (const SourceLoss& source : sources) total += source.loss ? source.share : 0;
  for (const SourceLoss& source : sources) {
    if (!source.loss) continue;
    loss += source.share / total * *source.loss;
    bits += source.share / total * source.bits_per_byte.value_or(0);
    bits_known = bits_known && source.bits_per_byte;
  }
  ValidationMetrics blend{.step = step, .loss = std::nullopt, .bits_per_byte = std::nullopt, .sources = {}};
  if (total > 0) blend.loss = loss;
  if (total > 0 && bits_known) blend.bits_per_byte = bits;
  blend.sources = std::move(sources);
  return blend;
}

}  // namespace jevons
