// The device mesh: one set of ranks factored twice, for dense layers (pp, dp, cp, tp) and for experts (pp,
// edp, ep), the last axis varying fastest. ep folds over dp*cp*tp: edp = dp*cp*tp / ep.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace jevons {

struct Layout {
  int dp = 1;  // data parallel
  int tp = 1;  // tensor parallel, always with sequence parallelism
  int ep = 1;  // expert parallel
  int pp = 1;  // pipeline parallel: only 1 in this version
  int cp = 1;  // context parallel: only 1 in this version
  int world() const { return pp * dp * cp * tp; }
  int edp() const { return dp * cp * tp / ep; }
  // "dp 2, tp 1, ep 2", with pp before and cp after dp where they are not 1: equal if and only if the layouts
  // are.
  std::string to_string() const;
  bool operator==(const Layout&) const = default;
};

// What of the model limits a layout; 0 = no limit.
struct LayoutLimits {
  std::int64_t num_heads = 0, num_kv_heads = 0, num_experts = 0, seq_len = 0, vocab_size = 0,
               ffn_hidden_size = 0;
};

// Throws Error(kUsage) naming the bad product and what would work, e.g. "parallel: dp*tp = 6 but 4 workers
// were started; dp 2 or tp 2 would fit".
void validate_layout(const Layout&, int world_size, const LayoutLimits&);

// Owns the communicators of every axis of this rank. Construction is collective.
class Mesh {
 public:
  Mesh(Communicator& world, const Layout& layout, const LayoutLimits& limits);

  const Layout& layout() const { return layout_; }
  // Learns of the wire bytes of all groups, world included; null stops that.
  void set_listener(WorkListener* listener);
  int dp_rank() const { return dp_rank_; }  // this rank's dp coordinate
  Communicator& world() { return world_; }
  Communicator& stage() { return *stage_; }        // dp*cp*tp: all ranks of this pipeline stage
  Communicator& replicas() { return *replicas_; }  // dp*cp: ranks of a stage that hold the same tp shard
  Communicator& tp() { return *tp_; }
  Communicator& ep() { return *ep_; }    // ranks that together hold all experts, by ascending world rank
  Communicator& edp() { return *edp_; }  // ranks that hold the same experts
  Communicator& pp() { return *pp_; }  // the ranks of all stages with one place in theirs, first stage first
  // All of the above.
  std::array<Communicator*, 7> groups();

 private:
  Layout layout_;
  Communicator& world_;
  int dp_rank_ = 0;
  std::unique_ptr<Communicator> stage_, replicas_, tp_, ep_, edp_, pp_;
};

}  // namespace jevons
