#include "trainer/run/validation_set.h"

#include <algorithm>
#include <cmath>

#include "trainer/step/evaluate.h"

namespace jevons {

ValidationSet::ValidationSet(const DataLoader& loader, std::int64_t limit)
    : loader_(loader),
      sources_(loader.sources(Split::kValidation)),
      samples_(loader.validation_selection(limit)) {}

bool ValidationSet::empty() const {
  return std::all_of(samples_.begin(), samples_.end(), [](const auto& samples) { return samples.empty(); });
}

void ValidationSet::fill(ModelWorker& worker, const std::vector<std::uint64_t>& samples, std::int64_t round,
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

ValidationMetrics ValidationSet::measure(ModelWorker& worker, std::int64_t step) const {
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
      const Evaluation found = evaluate(worker, rounds, [&](std::int64_t round, HostBatch& batch) {
        fill(worker, samples_[s], round, batch);
      });
      measured.loss = found.loss;
      measured.mtp = {.losses = found.mtp_losses, .acceptance = found.mtp_acceptance};
    }
    const std::optional<double> bytes = sources_[s].bytes_per_token;
    if (measured.loss && bytes) measured.bits_per_byte = *measured.loss / std::log(2.0) / *bytes;
    losses.push_back(std::move(measured));
  }
  return blend_of(std::move(losses), step);
}

ValidationMetrics blend_of(std::vector<SourceLoss> sources, std::int64_t step) {
  // The mean of a figure by the shares of the sources, of those where it is known.
  const auto mean = [&](auto figure_of) -> std::optional<double> {
    double total = 0, sum = 0;
    for (const SourceLoss& source : sources) total += figure_of(source) ? source.share : 0;
    for (const SourceLoss& source : sources) {
      if (figure_of(source)) sum += source.share / total * *figure_of(source);
    }
    return total > 0 ? std::optional(sum) : std::nullopt;
  };
  ValidationMetrics blend{.step = step,
                          .loss = mean([](const SourceLoss& s) { return s.loss; }),
                          .bits_per_byte = std::nullopt,
                          .sources = {}};
  const bool bits_known = std::all_of(sources.begin(), sources.end(), [](const SourceLoss& source) {
    return !source.loss || source.bits_per_byte;
  });
  if (bits_known) blend.bits_per_byte = mean([](const SourceLoss& s) { return s.bits_per_byte; });
  blend.mtp.acceptance = mean([](const SourceLoss& s) { return s.mtp.acceptance; });
  std::size_t depths = 0;
  for (const SourceLoss& source : sources) depths = std::max(depths, source.mtp.losses.size());
  for (std::size_t k = 0; k < depths; ++k) {
    blend.mtp.losses.push_back(mean([k](const SourceLoss& s) {
      return k < s.mtp.losses.size() ? s.mtp.losses[k] : std::optional<double>();
    }));
  }
  blend.sources = std::move(sources);
  return blend;
}

}  // namespace jevons
