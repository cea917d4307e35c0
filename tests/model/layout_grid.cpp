#include "tests/model/layout_grid.h"

#include <cmath>

#include "kernels/gemm.h"
#include "kernels/optimizer.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace jevons::test {
namespace {

// Sequences [first, first + n) of the global batch.
MicroBatch part_of(const MicroBatch& all, const ModelConfig& config, std::int64_t first, std::int64_t n) {
  const std::int64_t begin = first * config.seq_len, end = begin + n * config.seq_len;
  return {.tokens = all.tokens.slice(begin, end),
          .targets = all.targets.slice(begin, end),
          .doc_start = all.doc_start.defined() ? all.doc_start.slice(begin, end) : Tensor{}};
}

// Two documents in every sequence, the border elsewhere in each.
Tensor two_documents(TestBed& bed, const ModelConfig& config) {
  const Tensor doc_start = bed.tensor({kSequences * config.seq_len}, DType::kI32);
  for (std::int64_t row = 0; row < doc_start.numel(); ++row) {
    const std::int64_t border = config.seq_len * (row / config.seq_len + 1) / (kSequences + 2);
    doc_start.ptr<std::int32_t>()[row] =
        static_cast<std::int32_t>(row % config.seq_len < border ? 0 : border);
  }
  return doc_start;
}

std::vector<double> state_of(const Model& model) {
  std::vector<double> values;
  for (const StateTensor& state : model.state()) {
    const std::vector<double> one = to_vector(state.value);
    values.insert(values.end(), one.begin(), one.end());
  }
  return values;
}

// w -= g on what this rank owns, then the weights of all.
void sgd_update(TestBed& bed, GradReducer& reducer) {
  for (std::size_t g = 0; g < bed.store.groups().size(); ++g) {
    const ParamGroup& group = bed.store.groups()[g];
    if (group.tie == Tie::kCopy) continue;
    const FlatRange range = reducer.update_range(g);
    const Tensor weights = group.weights.slice(range.begin, range.begin + range.numel);
    const Tensor grads = group.grads.slice(range.begin, range.begin + range.numel);
    sgd_step(bed.ctx, {.lr = 1},
             {.master = weights, .moment1 = {}, .moment2 = {}, .grad = grads, .weight = weights});
  }
  reducer.gather_weights(bed.ctx);
}

// The elements of a rank's parameter that it holds the summed gradient of, against the global ones.
void expect_owned_close(TestBed& bed, const GradReducer& reducer, const NamedValues& want, double bound) {
  for (ParamId id = 0; id < bed.store.params().size(); ++id) {
    const Param& param = bed.store.params()[id];
    if (param.spec.tie == Tie::kCopy) continue;
    const FlatRange owned = reducer.update_range(bed.store.group_of(id));
    const std::vector<double>& global = want.at(param.spec.name);
    const Tensor local = bed.store.grad(id);
    double scale = 1e-30;
    for (double value : global) scale = std::max(scale, std::abs(value));
    for_each_element(param, [&](std::int64_t i, std::int64_t at) {
      const std::int64_t flat = param.flat_begin + i - owned.begin;
      if (flat < 0 || flat >= owned.numel) return;
      const double got = element(local, i), expected = global[static_cast<std::size_t>(at)];
      ENSURE(std::abs(got - expected) <= bound * scale, "gradient of {}[{}] = {}, expected {}",
             param.spec.name, at, got, expected);
    });
  }
}

void expect_weights_close(TestBed& bed, const NamedValues& want, double bound) {
  for (ParamId id = 0; id < bed.store.params().size(); ++id) {
    const Param& param = bed.store.params()[id];
    const std::vector<double>& global = want.at(param.spec.name);
    std::vector<double> mine(static_cast<std::size_t>(param.local_shape.numel()));
    for_each_element(param, [&](std::int64_t i, std::int64_t at) {
      mine[static_cast<std::size_t>(i)] = global[static_cast<std::size_t>(at)];
    });
    expect_close("updated " + param.spec.name, to_vector(bed.store.weight(id)), mine, bound);
  }
}

double bound_of(DType dtype, const GridPoint& point) {
  if (dtype == DType::kF64) return 1e-12;
  const bool same_rows = gemm_backend(dtype).row_invariant && point.layout.tp == 1 && point.layout.cp == 1;
  return same_rows ? 1e-6 : 2e-5;
}

void check_point(const GridModel& grid_model, const GridPoint& point, const StepResult& want) {
  const double bound = bound_of(grid_model.dtype, point);
  run_ranks(point.layout.world(), [&](Communicator& world) {
    TestBed bed(world, grid_model.dtype, point.layout, Device::kCpu, kSmallBucket);
    Model model(bed.store, grid_model.config);
    bed.place_weights();
    grid_model.prepare(model);
    BucketReducer reducer(bed.store, point.zero_stage);
    const PassFigures figures = forward_backward(bed, model, point, &reducer);
    const double loss = figures.loss, want_loss = want.figures.loss;
    ENSURE(std::abs(loss - want_loss) <= bound * want_loss, "loss {}, expected {}", loss, want_loss);
    ENSURE(figures.accepted == want.figures.accepted, "{} tokens accepted, expected {}", figures.accepted,
           want.figures.accepted);
    reducer.finish(bed.ctx);
    expect_owned_close(bed, reducer, want.gradients, bound);
    const double norm = reducer.global_norm(bed.ctx);
    ENSURE(std::abs(norm - want.norm) <= bound * want.norm, "gradient norm {}, expected {}", norm, want.norm);
    sgd_update(bed, reducer);
    expect_weights_close(bed, want.weights, bound);
    model.end_step(bed.ctx, BiasUpdate::kApply);
    ENSURE(state_of(model) == want.state, "the selection biases differ");
  });
}

}  // namespace

std::string GridPoint::to_string() const {
  return fmt::format("{}, zero {}, micro-batch {}{}", layout.to_string(), zero_stage, micro_batch,
                     documents ? ", documents" : "");
}

PassFigures forward_backward(TestBed& bed, Model& model, const GridPoint& point, GradReducer* reducer) {
  const ModelConfig& config = model.config();
  MicroBatch all = random_batch(bed, config, kSequences, "batch", 5);
  if (point.documents) all.doc_start = two_documents(bed, config);
  const auto targets = static_cast<double>(count_targets(all));
  LossScales scales{.token = 1 / targets,
                    .micro_batch = static_cast<double>(point.micro_batch) / kSequences,
                    .sequence = 1.0 / kSequences,
                    .position = 1.0 / static_cast<double>(kSequences * config.seq_len)};
  for (std::int64_t depth = 0; depth < config.mtp.depth; ++depth) {
    scales.mtp.push_back(0.5 / static_cast<double>(count_targets_of_depth(all, config, depth)));
  }
  const std::int64_t mine = kSequences / point.layout.dp, first = bed.mesh.dp_rank() * mine;
  const Tensor sum = bed.tensor({num_figures(config)}, DType::kF64);
  Model::Saved saved;
  for (std::int64_t s = 0; s < mine; s += point.micro_batch) {
    reset_and_poison(bed.stash);
    reset_and_poison(bed.work);
    const MicroBatch batch = part_of(all, config, first + s, point.micro_batch);
    const std::vector<double> evaluated = evaluated_figures(bed.ctx, model, batch);
    const std::vector<double> figures = forward_figures(bed.ctx, model, batch, saved);
    for (std::int64_t at = 0; at <= config.mtp.depth; ++at) {
      const auto i = static_cast<std::size_t>(at);
      ENSURE(evaluated[i] == figures[i], "evaluation gives a loss of {}, training {}", evaluated[i],
             figures[i]);
    }
    for (std::size_t i = 0; i < evaluated.size(); ++i) sum.ptr<double>()[i] += evaluated[i];
    const bool last = s + point.micro_batch == mine;
    const UnitDone done = [&](std::int64_t unit) {
      if (last && reducer != nullptr) reducer->start_unit(bed.ctx, unit);
    };
    model.backward(bed.ctx, saved, scales, done);
  }
  bed.mesh.stage().all_reduce(sum).wait();
  double loss = sum.ptr<double>()[0] / targets;
  for (std::size_t depth = 0; depth < scales.mtp.size(); ++depth)
    loss += scales.mtp[depth] * sum.ptr<double>()[depth + 1];
  return {.loss = loss, .accepted = config.mtp.depth > 0 ? sum.ptr<double>()[config.mtp.depth + 1] : 0};
}

StepResult one_worker(const GridModel& grid_model, std::int64_t micro_batch, bool documents) {
  MetaCommunicator world(0, 1);
  TestBed bed(world, grid_model.dtype);
  Model model(bed.store, grid_model.config);
  bed.place_weights();
  grid_model.prepare(model);
  StepResult result;
  result.figures =
      forward_backward(bed, model, {.layout = {}, .micro_batch = micro_batch, .documents = documents});
  BucketReducer reducer(bed.store, 0);
  reducer.finish(bed.ctx);
  result.norm = reducer.global_norm(bed.ctx);
  result.gradients = gradients_of(bed.store);
  sgd_update(bed, reducer);
  result.weights = weights_of(bed.store);
  model.end_step(bed.ctx, BiasUpdate::kApply);
  result.state = state_of(model);
  return result;
}

void check_points(const GridModel& model, const std::vector<GridPoint>& points, const StepResult& want) {
  for (const GridPoint& point : points) {
    INFO(point.to_string());
    CHECK_NOTHROW(check_point(model, point, want));
  }
}

}  // namespace jevons::test
