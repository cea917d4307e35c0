#include "parallel/param_store.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/rng.h"
#include "kernels/elementwise.h"

namespace jevons {

namespace {

// Elements of a rank's shard are a multiple of this: one AVX-512 vector of fp32.
constexpr std::int64_t kShardMultiple = 16;

SyncGroup sync_of(const ParamSpec& spec) {
  if (spec.expert) return SyncGroup::kExpert;
  return spec.tp_dim >= 0 ? SyncGroup::kTpSharded : SyncGroup::kReplicated;
}

Communicator* communicator_of(SyncGroup sync, Mesh& mesh) {
  switch (sync) {
    case SyncGroup::kTpSharded:
      return &mesh.replicas();
    case SyncGroup::kReplicated:
      return &mesh.stage();
    case SyncGroup::kExpert:
      return &mesh.edp();
  }
  return nullptr;
}

void check_spec(const ParamSpec& spec) {
  ENSURE(!spec.name.empty(), "a weight needs a name");
  ENSURE(spec.shape.ndim() == 1 || spec.shape.ndim() == 2, "{}: weights have 1 or 2 dims, not {}", spec.name,
         spec.shape.to_string());
  ENSURE(spec.tp_dim < spec.shape.ndim(), "{}: tp_dim {} of {}", spec.name, spec.tp_dim,
         spec.shape.to_string());
  const std::int64_t period =
      std::accumulate(spec.row_blocks.begin(), spec.row_blocks.end(), std::int64_t{0});
  ENSURE(spec.row_blocks.empty() || (std::ranges::min(spec.row_blocks) > 0 && spec.shape[0] % period == 0),
         "{}: blocks of {} rows do not fill {}", spec.name, period, spec.shape.to_string());
  ENSURE(!spec.expert || spec.tp_dim < 0, "{}: experts are not split over tp", spec.name);
}

// Writes the local part; element (row, col) of it is element (row + row_offset, col + col_offset) of the
// global matrix.
template <class T>
void fill_normal(const Param& param, Tensor weight, const RandomStream& stream, int threads) {
  const bool by_row = param.spec.tp_dim == 0, matrix = param.spec.shape.ndim() == 2;
  const std::int64_t global_cols = matrix ? param.spec.shape[1] : 1;
  const std::int64_t rows = weight.shape[0], cols = matrix ? weight.shape[1] : 1;
  const std::int64_t first = by_row ? param.tp_offset * global_cols : param.tp_offset;
  T* const out = weight.ptr<T>();
#pragma omp parallel for num_threads(threads) schedule(static)
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    const std::int64_t index = first + i / cols * global_cols + i % cols;
    const double value = param.spec.init_std * stream.normal(static_cast<std::uint64_t>(index));
    if constexpr (std::is_same_v<T, double>) {
      out[i] = value;
    } else {
      out[i] = static_cast<T>(static_cast<float>(value));
    }
  }
}

template <class T>
void fill_param(const Param& param, Tensor weight, std::uint64_t seed, int threads) {
  switch (param.spec.init) {
    case InitKind::kNormal:
      fill_normal<T>(param, weight, RandomStream(seed, param.spec.name), threads);
      break;
    case InitKind::kOnes:
      std::ranges::fill(weight.span<T>(), static_cast<T>(1.0f));
      break;
    case InitKind::kZeros:
      std::ranges::fill(weight.span<T>(), static_cast<T>(0.0f));
      break;
  }
}

// weight: in host memory.
void fill_param(const Param& param, Tensor weight, std::uint64_t seed, int threads) {
  switch (weight.dtype) {
    case DType::kF32:
      return fill_param<float>(param, weight, seed, threads);
    case DType::kBF16:
      return fill_param<bf16>(param, weight, seed, threads);
    case DType::kF64:
      return fill_param<double>(param, weight, seed, threads);
    default:
      fail(ExitCode::kFailure, "{}: weights cannot be {}", param.spec.name, name_of(weight.dtype));
  }
}

}  // namespace

ParamStore::ParamStore(Mesh& mesh, Device device, DType compute, std::int64_t bucket_bytes)
    : mesh_(mesh), device_(device), compute_(compute), bucket_bytes_(bucket_bytes) {}

std::int64_t ParamStore::begin_unit() {
  return ++unit_;
}

void ParamStore::enter(std::int64_t unit) {
  ENSURE(unit >= 0 && unit <= unit_, "unit {} of {} is entered", unit, unit_);
  entered_.resize(static_cast<std::size_t>(unit_ + 1));
  ++entered_[static_cast<std::size_t>(unit)];
}

void ParamStore::leave(std::int64_t unit) {
  const auto at = static_cast<std::size_t>(unit);
  ENSURE(at < entered_.size() && entered_[at] > 0, "unit {} is left and was not entered", unit);
  --entered_[at];
}

void ParamStore::check_entered(ParamId id) const {
  if (!entry_required_) return;
  const Param& param = params_.at(id);
  const auto at = static_cast<std::size_t>(param.unit);
  ENSURE(at < entered_.size() && entered_[at] > 0, "{} is read outside of its unit {}", param.spec.name,
         param.unit);
}

std::optional<ParamId> ParamStore::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? std::nullopt : std::optional(found->second);
}

bool ParamStore::takes(const ParamGroup& group, const Param& param) const {
  if (group.sync != param.sync || group.keep_f32 != param.spec.keep_f32) return false;
  if (group.first_unit < first_open_unit_) return false;
  if (group.tie != Tie::kNone || param.spec.tie != Tie::kNone) return false;
  const auto bytes = group.numel * static_cast<std::int64_t>(size_of(accumulator_of(compute_)));
  return group.last_unit == unit_ || bytes < bucket_bytes_;
}

ParamId ParamStore::add(ParamSpec spec) {
  ENSURE(buffers_.empty(), "{}: declared after allocate()", spec.name);
  check_spec(spec);
  const ParamId id = params_.size();
  const std::optional<ParamId> owner = spec.tie == Tie::kCopy ? find(spec.name) : std::nullopt;
  if (spec.tie != Tie::kCopy)
    ENSURE(by_name_.emplace(spec.name, id).second, "{}: two weights of this name", spec.name);

  Param param{.spec = std::move(spec), .sync = {}, .unit = unit_, .local_shape = {}};
  param.sync = sync_of(param.spec);
  param.owner = owner;
  std::vector<std::int64_t> dims(param.spec.shape.dims().begin(), param.spec.shape.dims().end());
  if (param.spec.tp_dim >= 0) {
    std::int64_t& dim = dims[static_cast<std::size_t>(param.spec.tp_dim)];
    const int parts = mesh_.tp().size();
    ENSURE(dim % parts == 0, "{}: tp {} does not divide dim {} of {}", param.spec.name, parts,
           param.spec.tp_dim, param.spec.shape.to_string());
    dim /= parts;
    param.tp_offset = dim * mesh_.tp().rank();
  }
  param.local_shape = Shape(dims);

  auto group = std::ranges::find_if(groups_, [&](const ParamGroup& g) { return takes(g, param); });
  if (group == groups_.end()) {
    groups_.push_back({.sync = param.sync,
                       .keep_f32 = param.spec.keep_f32,
                       .tie = param.spec.tie,
                       .first_unit = unit_,
                       .comm = communicator_of(param.sync, mesh_),
                       .weights = {},
                       .grads = {},
                       .source_grads = {}});
    group = groups_.end() - 1;
  }
  group->last_unit = unit_;
  param.flat_begin = group->numel;
  group->numel += param.local_shape.numel();
  group_index_.push_back(static_cast<std::size_t>(group - groups_.begin()));
  params_.push_back(std::move(param));
  return id;
}

void ParamStore::allocate(GradSources sources) {
  ENSURE(buffers_.empty(), "weights are already allocated");
  const DType accumulator = accumulator_of(compute_);
  const auto place = [&](std::int64_t numel, DType dtype) {
    buffers_.emplace_back(device_, static_cast<std::size_t>(numel) * size_of(dtype));
    return buffers_.back().view(0, {numel}, dtype);
  };
  if (sources == GradSources::kApart) expert_sources_ = mesh_.ep().size();
  arrivals_.resize(groups_.size());
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    ParamGroup& group = groups_[g];
    const std::int64_t multiple = group.comm->size() * kShardMultiple;
    group.numel = (group.numel + multiple - 1) / multiple * multiple;
    if (group.tie != Tie::kCopy || !tied_group(g))
      group.weights = place(group.numel, group.keep_f32 ? accumulator : compute_);
    if (sources == GradSources::kNone) continue;
    const std::int64_t copies = group.sync == SyncGroup::kExpert ? expert_sources_ : 1;
    for (std::int64_t i = 0; i < copies; ++i) group.source_grads.push_back(place(group.numel, accumulator));
    group.grads = group.source_grads.front();
  }
}

void ParamStore::initialize(std::uint64_t seed, int threads) {
  if (device_ == Device::kMeta) return;
  const Stream stream(device_);
  for (ParamId id = 0; id < params_.size(); ++id) {
    if (params_[id].owner) continue;
    const Tensor w = weight(id);
    if (device_ == Device::kCpu) {
      fill_param(params_[id], w, seed, threads);
      continue;
    }
    const Buffer host(Device::kCpu, w.bytes(), Contents::kUndefined);
    const Tensor filled = host.view(0, w.shape, w.dtype);
    fill_param(params_[id], filled, seed, threads);
    copy_and_wait(&stream, w, filled);
  }
}

std::vector<ParamPiece> ParamStore::pieces(std::size_t group, FlatRange range) const {
  std::vector<ParamPiece> found;
  for (ParamId id = 0; id < params_.size(); ++id) {
    if (group_index_[id] != group) continue;
    const Param& p = params_[id];
    const ParamPiece piece{.id = id,
                           .begin = std::max(range.begin, p.flat_begin),
                           .end = std::min(range.end(), p.flat_begin + p.local_shape.numel())};
    if (piece.begin < piece.end) found.push_back(piece);
  }
  return found;
}

std::vector<ParamPiece> ParamStore::pieces(std::size_t group) const {
  return pieces(group, {0, groups_[group].numel});
}

Tensor ParamStore::local(ParamId id, Tensor ParamGroup::*flat) const {
  const Param& param = params_.at(id);
  const Tensor& buffer = groups_[group_index_[id]].*flat;
  ENSURE(buffer.defined(), "{}: its memory was not allocated", param.spec.name);
  return buffer.slice(param.flat_begin, param.flat_begin + param.local_shape.numel())
      .reshape(param.local_shape);
}

void ParamStore::expect_weights(std::size_t group, Work arrival, PhaseClock* clock) {
  await(group);
  arrivals_.at(group) = Arrival{std::move(arrival), clock};
}

void ParamStore::await(std::size_t group) const {
  if (group >= arrivals_.size() || !arrivals_[group]) return;
  const PhaseScope phase(arrivals_[group]->clock, Phase::kGradSync);
  arrivals_[group]->work.wait();
  arrivals_[group].reset();
}

void ParamStore::await_weights() const {
  for (std::size_t group = 0; group < groups_.size(); ++group) await(group);
}

Tensor ParamStore::weight(ParamId id) const {
  check_entered(id);
  await(group_of(holder(id)));
  return local(holder(id), &ParamGroup::weights);
}
Tensor ParamStore::grad(ParamId id) const {
  return local(id, &ParamGroup::grads);
}

const ParamGroup& ParamStore::group_of_all(std::span<const ParamId> ids) const {
  ENSURE(!ids.empty(), "no weights to fuse");
  return groups_[group_index_.at(ids.front())];
}

Tensor ParamStore::fused(std::span<const ParamId> ids, const Tensor& flat) const {
  ENSURE(flat.defined(), "{}: used before allocate()", params_[ids.front()].spec.name);
  const std::int64_t begin = params_[ids.front()].flat_begin, cols = params_[ids.front()].local_shape[1];
  std::int64_t rows = 0, end = begin;
  for (ParamId id : ids) {
    const Param& param = params_.at(id);
    ENSURE(group_index_[id] == group_index_[ids.front()] && param.flat_begin == end &&
               param.local_shape.ndim() == 2 && param.local_shape[1] == cols,
           "{} {} does not continue {} {} as one matrix", param.spec.name, param.local_shape.to_string(),
           params_[ids.front()].spec.name, params_[ids.front()].local_shape.to_string());
    rows += param.local_shape[0];
    end += param.local_shape.numel();
  }
  return flat.slice(begin, end).reshape({rows, cols});
}

Tensor ParamStore::fused_weight(std::span<const ParamId> ids) const {
  const ParamGroup& group = group_of_all(ids);
  check_entered(ids.front());
  await(group_of(ids.front()));
  return fused(ids, group.weights);
}
Tensor ParamStore::fused_grad(std::span<const ParamId> ids, std::int64_t source) const {
  const ParamGroup& group = group_of_all(ids);
  return fused(ids, source == 0 ? group.grads : group.source_grads.at(static_cast<std::size_t>(source)));
}

void ParamStore::zero_grads(const Context& ctx) {
  for (ParamGroup& group : groups_) {
    for (const Tensor& grads : group.source_grads) fill_zero(ctx, grads);
  }
}

std::size_t ParamStore::group_of(ParamId id) const {
  return group_index_.at(id);
}

std::optional<std::size_t> ParamStore::tied_group(std::size_t group) const {
  for (const Param& param : params_) {
    if (!param.owner) continue;
    const std::size_t copy = group_of(static_cast<ParamId>(&param - params_.data())),
                      owner = group_of(*param.owner);
    if (group == copy) return owner;
    if (group == owner) return copy;
  }
  return std::nullopt;
}

std::int64_t ParamStore::local_numel() const {
  std::int64_t sum = 0;
  for (const Param& param : params_) {
    if (param.spec.tie != Tie::kCopy) sum += param.local_shape.numel();
  }
  return sum;
}

std::size_t ParamStore::bytes() const {
  std::size_t sum = 0;
  for (const Buffer& buffer : buffers_) sum += buffer.bytes();
  return sum;
}

}  // namespace jevons
