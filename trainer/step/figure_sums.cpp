#include "trainer/step/figure_sums.h"

#include <algorithm>
#include <iterator>

#include "parallel/host_exchange.h"

namespace jevons {

FigureSums take_figures(ModelWorker& worker) {
  worker.finish_passes();
  Figures& figures = worker.figures();
  FigureSums sums(static_cast<std::size_t>(num_figures(worker.config().model)));
  for (std::int64_t i = 0; i < figures.rows(); ++i) {
    const auto row = figures.row(i).span<double>();
    for (std::size_t f = 0; f < sums.size(); ++f) sums[f].add(row[f]);
  }
  figures.clear();
  return sums;
}

std::vector<double> sums_over_ranks(Communicator& world, FigureSums sums) {
  std::vector<std::int64_t> parts;
  for (ExactSum& sum : sums) std::ranges::copy(sum.parts(), std::back_inserter(parts));
  all_reduce(world, std::span(parts));
  std::vector<double> values;
  for (auto part = parts.begin(); ExactSum & sum : sums) {
    std::copy_n(part, ExactSum::kParts, sum.parts().begin());
    part += ExactSum::kParts;
    values.push_back(sum.value());
  }
  return values;
}

std::optional<double> mean_over(std::int64_t count, double sum) {
  return count > 0 ? std::optional(sum / static_cast<double>(count)) : std::nullopt;
}

std::vector<std::optional<double>> mtp_means(const std::vector<std::int64_t>& targets,
                                             const std::vector<double>& figures) {
  std::vector<std::optional<double>> means;
  for (std::size_t i = 1; i < targets.size(); ++i) means.push_back(mean_over(targets[i], figures[i]));
  return means;
}

}  // namespace jevons
