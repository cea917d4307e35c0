#include "trainer/run/data_report.h"

#include <fmt/format.h>

#include "trainer/io/format.h"

namespace jevons {
namespace {

std::string name_and_files(const SourceFacts& source) {
  if (source.files <= 1) return source.name;
  const std::string short_ones =
      source.too_short > 0 ? fmt::format(", {} of them too short for a sample", source.too_short) : "";
  return fmt::format("{} ({} files{})", source.name, format_integer(source.files), short_ones);
}

std::string facts_of(const SourceFacts& source) {
  return fmt::format("{}: {:.1f} % of the blend, {} tokens", name_and_files(source), 100 * source.share,
                     format_count(static_cast<double>(source.tokens)));
}

}  // namespace

DataReport describe_data(const DataLoader& loader, std::uint64_t train_samples, std::int64_t eval_samples) {
  DataReport report;
  const std::vector<SourceFacts> train = loader.sources(Split::kTrain);
  const std::vector<std::uint64_t> counts = loader.train_samples_by_source(train_samples);
  for (std::size_t s = 0; s < train.size(); ++s) {
    const double epochs = static_cast<double>(counts[s]) / static_cast<double>(train[s].samples);
    report.lines.push_back(
        fmt::format("train {}, {} samples in this run: {} epochs", facts_of(train[s]),
                    format_integer(static_cast<std::int64_t>(counts[s])),
                    epochs < 1000 ? fmt::format("{:.3g}", epochs) : fmt::format("{:.0f}", epochs)));
  }
  const std::vector<SourceFacts> validation = loader.sources(Split::kValidation);
  const auto selection = loader.validation_selection(eval_samples);
  for (std::size_t s = 0; s < validation.size(); ++s) {
    const SourceFacts& source = validation[s];
    if (source.samples == 0) {
      report.warnings.push_back(
          fmt::format("validation source {}: {} tokens are too few for a sample: it is not validated, and "
                      "not in the blend",
                      name_and_files(source), source.tokens));
      continue;
    }
    report.lines.push_back(fmt::format("validation {}, {} of {} samples", facts_of(source),
                                       format_integer(std::ssize(selection[s])),
                                       format_integer(source.samples)));
  }
  return report;
}

std::string passport_of_sources(const DataLoader& loader) {
  std::string text;
  for (const SourceFacts& source : loader.sources(Split::kTrain)) {
    text += fmt::format("{}: share {}, {} files, {} tokens\n", source.name, source.share, source.files,
                        source.tokens);
  }
  return text;
}

}  // namespace jevons
