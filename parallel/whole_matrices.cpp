#include "parallel/whole_matrices.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "kernels/elementwise.h"
#include "kernels/head_copy.h"

namespace jevons {

// Its pieces in order make its parts of equal columns, one after another. begin: in the gradients of the rank
// that holds it, `peer`; at: in the matrix.
struct WholeMatrices::Matrix {
  std::int64_t rows = 0, cols = 0;
  int column_parts = 1;
  std::vector<Move> pieces;
  int owner = 0;

  bool is_spread() const { return pieces.size() > 1; }
  // FLOPs of a product with itself, but for a factor.
  double work() const {
    const std::int64_t narrow = std::min(rows, cols);
    return static_cast<double>(narrow * narrow) * static_cast<double>(std::max(rows, cols));
  }
};

namespace {

// Where rank `part` of tp has rows [begin, end) of a whole weight: elements of its group's flat buffers.
FlatRange range_of_part(const Param& param, std::int64_t begin, std::int64_t end, int part) {
  if (param.spec.tp_dim == 0) {
    const std::int64_t height = param.local_shape[0], first = part * height;
    begin = std::max(begin, first) - first, end = std::min(end, first + height) - first;
  }
  const std::int64_t cols = param.local_shape[1];
  return {param.flat_begin + begin * cols, std::max<std::int64_t>(0, end - begin) * cols};
}

// Between the parts of equal columns of a matrix, one after another in `parts`, and the matrix.
enum class Direction : std::uint8_t { kJoin, kCut };
void move_columns(const Context& ctx, Direction direction, Tensor parts, int count, Tensor matrix) {
  const std::int64_t rows = matrix.rows(), cols = matrix.cols() / count;
  for (int i = 0; i < count; ++i) {
    const Tensor values = parts.slice(i * rows * cols, (i + 1) * rows * cols).reshape({rows, cols});
    const HeadView part{values, 0, 1, cols}, place{matrix, i * cols, 1, cols};
    copy_heads(ctx, direction == Direction::kJoin ? part : place,
               direction == Direction::kJoin ? place : part);
  }
}

}  // namespace

WholeMatrices::WholeMatrices(ParamStore& store, const GradReducer& reducer,
                             const std::function<bool(const ParamSpec&)>& takes)
    : store_(store) {
  Mesh& mesh = store.mesh();
  std::vector<std::vector<Matrix>> matrices;
  for (std::size_t g = 0; g < store.groups().size(); ++g) {
    const ParamGroup& group = store.groups()[g];
    const bool sharded = reducer.update_range(g).numel < group.numel;
    const int parts = group.sync == SyncGroup::kTpSharded ? mesh.tp().size() : 1;
    Plan plan;
    plan.group = g;
    if (sharded) plan.comm = parts > 1 ? &mesh.stage() : group.comm;
    if (!sharded && parts > 1) plan.comm = &mesh.tp();
    std::vector<Matrix> of_group;
    for (const ParamPiece& piece : store.pieces(g)) {
      const Param& param = store.params()[piece.id];
      if (param.spec.shape.ndim() != 2 || !takes(param.spec)) continue;
      std::ranges::move(matrices_of(param, parts, sharded ? group.shard_numel() : group.numel),
                        std::back_inserter(of_group));
    }
    if (of_group.empty()) continue;
    plans_.push_back(std::move(plan));
    matrices.push_back(std::move(of_group));
  }
  choose_owners(matrices, plans_);
  for (std::size_t i = 0; i < plans_.size(); ++i) complete(plans_[i], matrices[i]);
}

// Shard r of part t of tp is held by rank r * parts + t: so a stage's ranks are ordered.
std::vector<WholeMatrices::Matrix> WholeMatrices::matrices_of(const Param& param, int parts,
                                                              std::int64_t shard) {
  std::vector<Matrix> matrices;
  const std::int64_t all_rows = param.spec.shape[0];
  const std::vector<std::int64_t> whole = {all_rows};
  const std::vector<std::int64_t>& heights = param.spec.row_blocks.empty() ? whole : param.spec.row_blocks;
  for (std::int64_t row = 0, i = 0; row < all_rows; ++i) {
    const std::int64_t height = heights[static_cast<std::size_t>(i % std::ssize(heights))];
    Matrix matrix;
    matrix.rows = height, matrix.cols = param.spec.shape[1];
    if (param.spec.tp_dim == 1) matrix.column_parts = parts;
    std::int64_t at = 0;
    for (int part = 0; part < parts; ++part) {
      const FlatRange range = range_of_part(param, row, row + height, part);
      for (std::int64_t begin = range.begin; begin < range.end();) {
        const std::int64_t holder = begin / shard, end = std::min(range.end(), (holder + 1) * shard);
        matrix.pieces.push_back({static_cast<int>(holder) * parts + part, begin, end - begin, at});
        at += end - begin, begin = end;
      }
    }
    matrices.push_back(std::move(matrix));
    row += height;
  }
  return matrices;
}

// One that lies on one rank is that rank's; of the others, the largest first, each goes to the one of its
// holders that has the least to do. All ranks of a communicator come to the same.
void WholeMatrices::choose_owners(std::vector<std::vector<Matrix>>& of_plans,
                                  const std::vector<Plan>& plans) {
  std::map<const Communicator*, std::vector<double>> loads;
  std::vector<std::pair<Matrix*, std::vector<double>*>> spread;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    std::vector<double>& load = loads[plans[i].comm];
    load.resize(plans[i].comm == nullptr ? 1 : static_cast<std::size_t>(plans[i].comm->size()));
    for (Matrix& matrix : of_plans[i]) {
      matrix.owner = matrix.pieces.front().peer;
      if (matrix.is_spread()) {
        spread.emplace_back(&matrix, &load);
      } else {
        load[static_cast<std::size_t>(matrix.owner)] += matrix.work();
      }
    }
  }
  std::ranges::stable_sort(spread,
                           [](const auto& a, const auto& b) { return a.first->work() > b.first->work(); });
  for (const auto& [matrix, load] : spread) {
    const auto load_of = [load = load](int rank) -> double& {
      return (*load)[static_cast<std::size_t>(rank)];
    };
    for (const Move& piece : matrix->pieces) {
      if (load_of(piece.peer) < load_of(matrix->owner)) matrix->owner = piece.peer;
    }
    load_of(matrix->owner) += matrix->work();
  }
}

// A message to a rank, and one from it, has its pieces in the order of the matrices: at most one of each.
void WholeMatrices::complete(Plan& plan, const std::vector<Matrix>& matrices) {
  const int me = plan.comm == nullptr ? 0 : plan.comm->rank();
  const auto in_messages = [&](std::vector<Move*> moves, std::vector<std::int64_t>& counts) {
    counts.resize(static_cast<std::size_t>(plan.comm->size()));
    std::ranges::stable_sort(moves, {}, &Move::peer);
    std::int64_t at = 0;
    for (Move* move : moves) {
      move->at = at, at += move->numel;
      counts[static_cast<std::size_t>(move->peer)] += move->numel;
    }
  };
  for (const Matrix& matrix : matrices) {
    const bool mine = matrix.owner == me;
    Owned owned{matrix.rows, matrix.cols, matrix.column_parts, matrix.pieces};
    if (!matrix.is_spread()) {
      if (mine) plan.here.push_back(std::move(owned));
      continue;
    }
    for (const Move& piece : matrix.pieces) {
      if (piece.peer == me) plan.sent.push_back({matrix.owner, piece.begin, piece.numel});
    }
    if (!mine) continue;
    for (Move& piece : owned.pieces) piece.begin = piece.at;
    plan.gathered.push_back(std::move(owned));
  }
  if (std::ranges::none_of(matrices, &Matrix::is_spread)) return;
  std::vector<Move*> sent, received;
  for (Move& move : plan.sent) sent.push_back(&move);
  for (Owned& owned : plan.gathered) {
    for (Move& piece : owned.pieces) received.push_back(&piece);
  }
  in_messages(std::move(sent), plan.send_counts);
  in_messages(std::move(received), plan.recv_counts);
}

void WholeMatrices::for_each(const Context& ctx, const std::function<void(Tensor)>& f) const {
  for (const Plan& plan : plans_) {
    const Tensor grads = store_.groups()[plan.group].grads;
    for (const Owned& matrix : plan.here) {
      const std::int64_t begin = matrix.pieces.front().begin;
      f(grads.slice(begin, begin + matrix.rows * matrix.cols).reshape({matrix.rows, matrix.cols}));
    }
    if (!plan.send_counts.empty()) exchange(ctx, plan, f);
  }
}

void WholeMatrices::exchange(const Context& ctx, const Plan& plan,
                             const std::function<void(Tensor)>& f) const {
  const ArenaScope scope(*ctx.work);
  const Tensor grads = store_.groups()[plan.group].grads;
  const auto message = [&](const std::vector<std::int64_t>& counts) {
    return ctx.work->alloc({std::accumulate(counts.begin(), counts.end(), std::int64_t{0})}, grads.dtype);
  };
  const auto part = [](Tensor flat, std::int64_t begin, const Move& m) {
    return flat.slice(begin, begin + m.numel);
  };
  const Tensor out = message(plan.send_counts), in = message(plan.recv_counts);
  for (const Move& m : plan.sent) copy(ctx, part(grads, m.begin, m), part(out, m.at, m));
  plan.comm->all_to_all_v(out, plan.send_counts, in, plan.recv_counts).wait();
  for (const Owned& matrix : plan.gathered) {
    const ArenaScope one(*ctx.work);
    const int columns = matrix.column_parts;
    const Tensor whole = ctx.work->alloc({matrix.rows, matrix.cols}, grads.dtype);
    const Tensor flat =
        columns == 1 ? whole.reshape({whole.numel()}) : ctx.work->alloc({whole.numel()}, grads.dtype);
    for (const Move& m : matrix.pieces) copy(ctx, part(in, m.at, m), part(flat, m.begin, m));
    if (columns > 1) move_columns(ctx, Direction::kJoin, flat, columns, whole);
    f(whole);
    if (columns > 1) move_columns(ctx, Direction::kCut, flat, columns, whole);
    for (const Move& m : matrix.pieces) copy(ctx, part(flat, m.begin, m), part(in, m.at, m));
  }
  plan.comm->all_to_all_v(in, plan.recv_counts, out, plan.send_counts).wait();
  for (const Move& m : plan.sent) copy(ctx, part(out, m.at, m), part(grads, m.begin, m));
}

}  // namespace jevons
