// All weights and gradients of a worker, laid out flat. Layers declare ParamSpecs in their constructors, then
// allocate() places them, one flat buffer per group, in order of declaration and without gaps inside a group,
// so that neighbours can be used as one matrix (fused_weight). One rule for every weight: its gradient is
// summed over each non-pipeline axis of its mesh that does not shard it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/core/context.h"
#include "parallel/mesh.h"

namespace jevons {

enum class InitKind : std::uint8_t { kNormal, kOnes, kZeros };

// What a weight is in the model: what counts and the optimizer's rule go by.
enum class ParamRole : std::uint8_t {
  kMatrix,     // of a product
  kEmbedding,  // a table that is looked up
  kHead,       // the matrix of the logits, also where it is the embedding's table too
  kVector,     // scales of a norm: no weight decay
};

// A weight that is used at both ends of a model: the embedding, where a head or multi-token prediction use it
// too. Those declare a copy, which has gradients of its own: GradReducer adds them to the owner's, once, at
// the end of a step, so that the sum is the same whether both lie on one rank or on two.
enum class Tie : std::uint8_t {
  kNone,
  kOwner,  // there is a copy, here or on the last pipeline stage
  kCopy,   // of the owner's name; its values are the owner's, on the same rank also its memory
};

struct ParamSpec {
  std::string name;     // global and independent of the layout: "layers.7.moe.experts.13.up"
  Shape shape;          // global, 1 or 2 dims
  int tp_dim = -1;      // dim that tp splits into equal parts, -1 = replicated over tp
  bool expert = false;  // lives on the expert mesh: declared, whole, by the ranks of one ep coordinate only
  InitKind init = InitKind::kNormal;
  double init_std = 0.02;
  ParamRole role = ParamRole::kMatrix;
  double share_of_tokens = 1;  // that use it: top_k / num_experts for a routed expert
  // Of an expert: the weight of the dense FFN that a model without experts has in its place. Of a router: one
  // of that FFN, which tells that such a model has no router.
  std::string dense_counterpart = {};
  bool keep_f32 = false;  // used in the accumulator dtype (norms, router), not in the compute dtype
  // Of a matrix: the heights of those that lie below one another in it (of heads), again and again down to
  // its end; empty: it is one. For optimizers that take a matrix as such.
  std::vector<std::int64_t> row_blocks = {};
  Tie tie = Tie::kNone;
};

// Over which ranks a gradient is summed: replicas, stage, edp.
enum class SyncGroup : std::uint8_t { kTpSharded, kReplicated, kExpert };

using ParamId = std::size_t;

struct Param {
  ParamSpec spec;
  SyncGroup sync;
  std::int64_t unit = 0;
  Shape local_shape;
  std::int64_t tp_offset = 0;         // where the local part starts in dim tp_dim
  std::int64_t flat_begin = 0;        // elements, in its group's flat buffer
  std::optional<ParamId> owner = {};  // of a copy whose owner lies here: in whose memory its values are
};

// A bucket: one flat buffer of weights and of gradients whose gradients are summed over the same ranks, in
// one go. It holds whole units of the model, neighbours but for those that have no such weights. Its length
// is padded with zeros to a multiple of 16 elements per rank, so that every rank owns an equal, aligned shard
// for ZeRO-1. A tied weight has a group for itself, of the same shards as its copy's.
struct ParamGroup {
  SyncGroup sync;
  bool keep_f32 = false;
  Tie tie = Tie::kNone;
  std::int64_t first_unit = 0, last_unit = 0;
  Communicator* comm = nullptr;
  std::int64_t numel = 0;  // padded
  Tensor weights;  // (numel) compute dtype, or accumulator dtype when keep_f32; none if an owner has them
  Tensor grads;    // (numel) accumulator dtype; undefined under kNone
  std::vector<Tensor> source_grads;  // experts' under kApart: one (numel) per ep rank; else grads alone
  std::int64_t shard_begin() const { return numel / comm->size() * comm->rank(); }
  std::int64_t shard_numel() const { return numel / comm->size(); }
};

// Elements [begin, begin + numel) of a group's flat buffers. Padding at the end of a group is part of its
// ranges: its gradients are zero and its weights must stay zero.
struct FlatRange {
  std::int64_t begin = 0, numel = 0;
  std::int64_t end() const { return begin + numel; }
};

// What of a weight lies in a range: elements [begin, end) of its group's flat buffers.
struct ParamPiece {
  ParamId id = 0;
  std::int64_t begin = 0, end = 0;
  std::int64_t numel() const { return end - begin; }
};

// Whether the gradients of experts from the rows of every ep rank add up or stay apart, or there are none of
// any weight.
enum class GradSources : std::uint8_t { kSummed, kApart, kNone };

// Units first .. last.
struct UnitRange {
  std::int64_t first = 0, last = 0;
};

class ParamStore {
 public:
  // A bucket that holds `bucket_bytes` of gradients takes no further unit.
  ParamStore(Mesh& mesh, Device device, DType compute, std::int64_t bucket_bytes = std::int64_t{64} << 20);

  // Weights declared from here on belong to a new unit: a part of the model, a block say, whose gradients are
  // complete at one moment of the backward pass, before those of all earlier units. Returns its number, from
  // 1 on.
  std::int64_t begin_unit();
  // Units from here on share no bucket with those before: their gradients may be complete before or after.
  void close_buckets() { first_open_unit_ = unit_ + 1; }
  std::int64_t last_unit() const { return unit_; }  // so far
  // Declares a weight; throws if the name is taken (a copy takes none) or tp does not divide the dim. Only
  // before allocate().
  ParamId add(ParamSpec spec);
  void allocate(GradSources sources = GradSources::kSummed);
  // Fills weights as a pure function of (seed, name, global element index): the same on every layout and for
  // any number of CPU threads.
  void initialize(std::uint64_t seed, int threads = 1);

  // The weights of `unit` are read between the two, which may be nested.
  void enter(std::int64_t unit);
  void leave(std::int64_t unit);
  // From now on it is an error to read weights of a unit that is not entered.
  void require_entry() { entry_required_ = true; }

  // The weights of a group are on their way: who asks for one waits for them, on `clock` in
  // Phase::kGradSync. The group's own tensor may be read only where it does not change, or after
  // await_weights().
  void expect_weights(std::size_t group, Work arrival, PhaseClock* clock);
  void await_weights() const;

  std::optional<ParamId> find(const std::string& name) const;  // never a copy
  Tensor weight(ParamId id) const;                             // local shape
  Tensor grad(ParamId id) const;
  // Consecutive ids of one group as one matrix (sum of rows, cols); throws if they are not neighbours.
  Tensor fused_weight(std::span<const ParamId> ids) const;
  // Of rows of ep rank `source`; under kSummed there is 0 alone.
  Tensor fused_grad(std::span<const ParamId> ids, std::int64_t source = 0) const;
  std::int64_t expert_sources() const { return expert_sources_; }
  void zero_grads(const Context& ctx);

  std::span<const Param> params() const { return params_; }
  std::span<ParamGroup> groups() { return groups_; }
  std::span<const ParamGroup> groups() const { return groups_; }
  std::size_t group_of(ParamId id) const;  // index into groups()
  // The owner's of a group that is a copy, and the other way round; nothing if it lies on another rank.
  std::optional<std::size_t> tied_group(std::size_t group) const;
  // The weights in a range of a group, by place; all of the group's without a range.
  std::vector<ParamPiece> pieces(std::size_t group, FlatRange range) const;
  std::vector<ParamPiece> pieces(std::size_t group) const;
  std::int64_t local_numel() const;  // without padding and copies
  std::size_t bytes() const;         // of weights and gradients, padding included
  Mesh& mesh() const { return mesh_; }
  Device device() const { return device_; }
  DType compute() const { return compute_; }

 private:
  struct Arrival {
    Work work;
    PhaseClock* clock = nullptr;
  };
  bool takes(const ParamGroup& group, const Param& param) const;
  void await(std::size_t group) const;
  void check_entered(ParamId id) const;
  ParamId holder(ParamId id) const { return params_.at(id).owner.value_or(id); }
  const ParamGroup& group_of_all(std::span<const ParamId> ids) const;
  Tensor fused(std::span<const ParamId> ids, const Tensor& flat) const;
  Tensor local(ParamId id, Tensor ParamGroup::*flat) const;

  Mesh& mesh_;
  Device device_;
  DType compute_;
  std::int64_t expert_sources_ = 1;
  std::vector<Param> params_;
  std::vector<std::size_t> group_index_;  // of each param
  std::unordered_map<std::string, ParamId> by_name_;
  std::int64_t bucket_bytes_, unit_ = 0, first_open_unit_ = 0;
  std::vector<int> entered_;  // how often each unit is
  bool entry_required_ = false;
  std::vector<ParamGroup> groups_;
  std::vector<Buffer> buffers_;                           // weights and gradients of each group
  mutable std::vector<std::optional<Arrival>> arrivals_;  // of each group; their end is waited for first
};

}  // namespace jevons
