// The pipeline stages of a model that one rank holds, in the order of the model: all of it without a
// pipeline. Legend: as in stage.h.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "trainer/model/stage.h"

namespace jevons {

class LocalStages {
 public:
  // Declares every stage's weights, in buckets of its own.
  LocalStages(ParamStore& store, const ModelConfig& config, std::span<const StageRange> ranges);

  std::deque<Stage>& all() { return stages_; }
  // The one stage of a model that has no others.
  Stage& whole();
  const ModelConfig& config() const { return config_; }

  // As Stage's, over all stages.
  std::vector<Block*> blocks();
  void fetch_reports(const Context& ctx) const;
  void check_reports() const;
  void set_bias_update_rate(double rate);
  std::vector<StateTensor> state() const;
  // The MoE layers of this rank's stages in the order of the model; see Balance::end_step. Collective.
  std::vector<LayerHealth> end_step(const Context& ctx, BiasUpdate update);

 private:
  ModelConfig config_;
  std::deque<Stage> stages_;
};

// Those of all stages, in the order of the model, from those of each rank of `pp`. Collective.
std::vector<LayerHealth> gather_layers(Communicator& pp, const std::vector<LayerHealth>& mine);

}  // namespace jevons
