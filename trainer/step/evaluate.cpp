#include "trainer/step/evaluate.h"

#include <algorithm>
#include <functional>

#include "trainer/step/figure_sums.h"

namespace jevons {
namespace {

Evaluation mean_figures(ModelWorker& worker, std::int64_t rounds,
                        const std::function<void(std::int64_t, HostBatch&)>& fill) {
  const PhaseScope phase(worker.ctx().clock, Phase::kEval);
  const RunConfig& c = worker.config();
  HostBatch batch(c.train.micro_batch_size, c.model.seq_len, worker.ctx().device);
  FigureSums sums(static_cast<std::size_t>(num_figures(c.model)));
  std::vector<std::int64_t> targets(static_cast<std::size_t>(1 + c.model.mtp.depth));
  for (std::int64_t round = 0; round < rounds; ++round) {
    fill(round, batch);
    const std::vector<std::int64_t> counts = count_targets(worker, batch);
    std::ranges::transform(targets, counts, targets.begin(), std::plus{});
    forward_only(worker.ctx(), worker.pipeline(), worker.plan().evaluation(micro_batches_of(worker, batch)),
                 hooks_of(worker, batch));
    const FigureSums of_round = take_figures(worker);
    for (std::size_t f = 0; f < sums.size(); ++f) sums[f].add(of_round[f]);
  }
  const std::vector<double> figures = sums_over_ranks(worker.mesh().world(), sums);
  targets = global_targets(worker, targets);
  Evaluation result{.loss = mean_over(targets[0], figures[0]),
                    .mtp_losses = mtp_means(targets, figures),
                    .mtp_acceptance = std::nullopt};
  if (c.model.mtp.depth > 0) result.mtp_acceptance = mean_over(targets[1], figures.back());
  return result;
}

}  // namespace

Evaluation evaluate(ModelWorker& worker, std::int64_t rounds,
                    const std::function<void(std::int64_t, HostBatch&)>& fill) {
  return worker.with_memory_report([&] { return mean_figures(worker, rounds, fill); });
}

}  // namespace jevons
