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
  int pp = 1;  // pipeline parallel
  int cp = 1;  // context parallel
  int world() const { return pp * dp * cp * tp; }
  int edp() const { return dp * cp * tp / ep; }
  // "dp 2, tp 1, ep 2", with pp before and cp after dp where they are not 1: equal if and only if the layouts
  // are.
  std::string to_string() const;
  bool operator==(const Layout&) const = default;
};

// Owns the communicators of every axis of this rank. Construction is collective; the layout must have as many
// ranks as the world, and ep must fold over them (trainer/config judges what people ask for).
class Mesh {
 public:
  Mesh(Communicator& world, const Layout& layout);

  const Layout& layout() const { return layout_; }
  // Learns of the wire bytes of all groups, world included; null stops that.
  void set_listener(WorkListener* listener);
  int dp_rank() const { return dp_rank_; }  // this rank's dp coordinate
  Communicator& world() { return world_; }
  Communicator& stage() { return *stage_; }        // dp*cp*tp: all ranks of this pipeline stage
  Communicator& replicas() { return *replicas_; }  // dp*cp: ranks of a stage that hold the same tp shard
  Communicator& cp() { return *cp_; }              // ranks that share the rows of the same sequences
  Communicator& tp() { return *tp_; }
  Communicator& ep() { return *ep_; }    // ranks that together hold all experts, by ascending world rank
  Communicator& edp() { return *edp_; }  // ranks that hold the same experts
  Communicator& pp() { return *pp_; }  // the ranks of all stages with one place in theirs, first stage first
  // All of the above.
  std::array<Communicator*, 8> groups();

 private:
  Layout layout_;
  Communicator& world_;
  int dp_rank_ = 0;
  std::unique_ptr<Communicator> stage_, replicas_, cp_, tp_, ep_, edp_, pp_;
};

}  // namespace jevons
