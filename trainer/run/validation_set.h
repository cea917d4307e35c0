// The fixed samples that a run is validated on, and their loss: of every source, and of the blend.
#pragma once

#include <cstdint>
#include <vector>

#include "data/data_loader.h"
#include "trainer/report/step_metrics.h"
#include "trainer/step/batch.h"

namespace jevons {

class ValidationSet {
 public:
  // `limit` as for DataLoader::validation_selection; the loader must outlive it.
  ValidationSet(const DataLoader& loader, std::int64_t limit);

  bool empty() const;  // no sample in any source
  // Losses with today's weights, source after source. The blend is the mean of the sources' losses by their
  // shares, of those whose loss is known. The same for every layout, as a step is. Collective.
  ValidationMetrics measure(ModelWorker& worker, std::int64_t step) const;

 private:
  // The micro-batch that this worker computes in a round over a source's samples.
  void fill(ModelWorker& worker, const std::vector<std::uint64_t>& samples, std::int64_t round,
            HostBatch& batch) const;

  const DataLoader& loader_;
  std::vector<SourceFacts> sources_;
  std::vector<std::vector<std::uint64_t>> samples_;  // numbers of the samples of each source
};

// Of losses whose shares need not sum to 1; nothing if none is known, and no bits per byte unless all known
// losses have them.
ValidationMetrics blend_of(std::vector<SourceLoss> sources, std::int64_t step);

}  // namespace jevons
