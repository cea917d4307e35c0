#include "trainer/model/local_stages.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>
#include <string>

#include "kernels/core/error.h"
#include "parallel/host_exchange.h"

namespace jevons {
namespace {

// A layer's figures in a row, for the ranks of other stages.
class Packed {
 public:
  Packed() = default;
  explicit Packed(std::string bytes) : bytes_(std::move(bytes)) {}
  const std::string& bytes() const { return bytes_; }
  bool at_end() const { return at_ == bytes_.size(); }

  template <class T>
  void put(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  template <class T>
  void take(T& value) {
    ENSURE(at_ + sizeof(T) <= bytes_.size(), "figures of a layer end after {} bytes", bytes_.size());
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
  }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

template <class Health, class F>
void for_each_figure(Health& h, F f) {
  f(h.layer), f(h.max_over_mean), f(h.dead_experts), f(h.router_entropy), f(h.dropped_slots), f(h.max_rows);
}
template <class Health, class F>
void for_each_loss(Health& h, F f) {
  f(h.micro_batch_balance), f(h.sequence_balance), f(h.global_balance), f(h.z_loss);
}

void pack(const LayerHealth& health, Packed& packed) {
  for_each_figure(health, [&](const auto& figure) { packed.put(figure); });
  for_each_loss(health, [&](const std::optional<double>& loss) {
    packed.put(loss.has_value()), packed.put(loss.value_or(0));
  });
  packed.put(std::ssize(health.load));
  for (const std::int64_t slots : health.load) packed.put(slots);
}

LayerHealth unpack(Packed& packed) {
  LayerHealth health;
  for_each_figure(health, [&](auto& figure) { packed.take(figure); });
  for_each_loss(health, [&](std::optional<double>& loss) {
    bool has = false;
    double value = 0;
    packed.take(has), packed.take(value);
    if (has) loss = value;
  });
  std::ptrdiff_t experts = 0;
  packed.take(experts);
  health.load.resize(static_cast<std::size_t>(experts));
  for (std::int64_t& slots : health.load) packed.take(slots);
  return health;
}

}  // namespace

LocalStages::LocalStages(ParamStore& store, const ModelConfig& config, std::span<const StageRange> ranges)
    : config_(config) {
  for (const StageRange& range : ranges) {
    store.close_buckets();
    stages_.emplace_back(store, config, range);
  }
}

Stage& LocalStages::whole() {
  const StageRange& range = stages_.front().range();
  ENSURE(stages_.size() == 1 && range.embedding && range.head, "a whole model is asked of stages");
  return stages_.front();
}

std::vector<Block*> LocalStages::blocks() {
  std::vector<Block*> all;
  for (Stage& stage : stages_) std::ranges::move(stage.blocks(), std::back_inserter(all));
  return all;
}

void LocalStages::fetch_reports(const Context& ctx) const {
  for (const Stage& stage : stages_) stage.fetch_reports(ctx);
}

void LocalStages::check_reports() const {
  for (const Stage& stage : stages_) stage.check_reports();
}

void LocalStages::set_bias_update_rate(double rate) {
  for (Stage& stage : stages_) stage.set_bias_update_rate(rate);
}

std::vector<StateTensor> LocalStages::state() const {
  std::vector<StateTensor> all;
  for (const Stage& stage : stages_) std::ranges::move(stage.state(), std::back_inserter(all));
  return all;
}

std::vector<LayerHealth> LocalStages::end_step(const Context& ctx, BiasUpdate update) {
  std::vector<LayerHealth> all;
  for (Stage& stage : stages_) std::ranges::move(stage.end_step(ctx, update), std::back_inserter(all));
  return all;
}

std::vector<LayerHealth> gather_layers(Communicator& pp, const std::vector<LayerHealth>& mine) {
  if (pp.size() == 1) return mine;
  Packed packed;
  for (const LayerHealth& health : mine) pack(health, packed);
  std::vector<LayerHealth> all;
  for (std::string& text : all_gather_texts(pp, packed.bytes())) {
    Packed theirs(std::move(text));
    while (!theirs.at_end()) all.push_back(unpack(theirs));
  }
  std::ranges::sort(all, {}, &LayerHealth::layer);
  return all;
}

}  // namespace jevons
