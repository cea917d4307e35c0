// The rules that make each rank's list. A rule says which chunk and which kind come next; micro-batches
// follow by themselves, since every kind of a stage takes them in order.
#include <algorithm>
#include <deque>

#include "kernels/core/error.h"
#include "parallel/pipeline/schedule.h"

namespace jevons {
namespace {

template <class F>
void times(std::int64_t n, F f) {
  for (std::int64_t i = 0; i < n; ++i) f();
}

// The list of one rank as it grows.
class RankList {
 public:
  RankList(const PipelineShape& shape, int rank) : shape_(shape), rank_(rank) {
    forwards_.resize(static_cast<std::size_t>(shape.virtual_stages));
    backwards_.resize(static_cast<std::size_t>(shape.virtual_stages));
  }

  void forward(int chunk) { add(ActionKind::kForward, chunk, forwards(chunk)++); }
  void backward(int chunk) { add(ActionKind::kBackward, chunk, backwards(chunk)++); }
  void pair(int forward_chunk, int backward_chunk) {
    forward(forward_chunk);
    actions_.back().with_next = true;
    backward(backward_chunk);
  }
  // The halves: weight gradients wait in a queue.
  void backward_input(int chunk) {
    waiting_.push_back({chunk, backwards(chunk)++});
    add(ActionKind::kBackwardInput, chunk, waiting_.back().micro_batch);
  }
  void oldest_weight() { weight(waiting_.begin()); }
  void weight_of(int chunk) { weight(oldest_of(chunk)); }
  bool weight_waits(int chunk) { return oldest_of(chunk) != waiting_.end(); }

  std::int64_t& forwards(int chunk) { return forwards_[static_cast<std::size_t>(chunk)]; }  // so far
  std::vector<Action> take() { return std::move(actions_); }

 private:
  struct Waiting {
    int chunk;
    std::int64_t micro_batch;
  };
  using Place = std::deque<Waiting>::iterator;

  std::int64_t& backwards(int chunk) { return backwards_[static_cast<std::size_t>(chunk)]; }
  Place oldest_of(int chunk) {
    return std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& w) { return w.chunk == chunk; });
  }
  void weight(Place place) {
    add(ActionKind::kBackwardWeight, place->chunk, place->micro_batch);
    waiting_.erase(place);
  }
  void add(ActionKind kind, int chunk, std::int64_t micro_batch) {
    actions_.push_back({kind, shape_.stage_of(rank_, chunk), micro_batch});
  }

  const PipelineShape& shape_;
  int rank_;
  std::vector<std::int64_t> forwards_, backwards_;
  std::deque<Waiting> waiting_;
  std::vector<Action> actions_;
};

// arXiv 2104.04473, figure 4 above.
std::vector<Action> one_f_one_b(const PipelineShape& shape, int rank) {
  const std::int64_t m = shape.micro_batches, warmup = std::min<std::int64_t>(m, shape.ranks - 1 - rank);
  RankList list(shape, rank);
  times(warmup, [&] { list.forward(0); });
  times(m - warmup, [&] {
    list.forward(0);
    list.backward(0);
  });
  times(warmup, [&] { list.backward(0); });
  return list.take();
}

// Rounds of P micro-batches, or of a few more if P does not divide m.
std::int64_t interleaved_rounds(const PipelineShape& shape) {
  return std::max<std::int64_t>(1, shape.micro_batches / shape.ranks);
}

// The same paper, figure 4 below: all chunks in turn, each on a round of micro-batches. With pairs there is
// one more forward in the warm-up, so that a pair's forward does not need what its backward makes.
std::vector<Action> interleaved(const PipelineShape& shape, int rank, PipelineOverlap overlap) {
  const bool pairs = overlap == PipelineOverlap::kPairs;
  const std::int64_t v = shape.virtual_stages, round = shape.micro_batches / interleaved_rounds(shape);
  const std::int64_t n = shape.micro_batches * v;
  const std::int64_t warmup = std::min(n, (v - 1) * round + 2 * (shape.ranks - 1 - rank) + (pairs ? 1 : 0));
  const auto forward_chunk = [&](std::int64_t k) { return static_cast<int>(k / round % v); };
  const auto backward_chunk = [&](std::int64_t k) { return static_cast<int>(v - 1 - k / round % v); };
  RankList list(shape, rank);
  for (std::int64_t k = 0; k < warmup; ++k) list.forward(forward_chunk(k));
  for (std::int64_t k = 0; k < n - warmup; ++k) {
    if (pairs) {
      list.pair(forward_chunk(warmup + k), backward_chunk(k));
    } else {
      list.forward(forward_chunk(warmup + k));
      list.backward(backward_chunk(k));
    }
  }
  for (std::int64_t k = n - warmup; k < n; ++k) list.backward(backward_chunk(k));
  return list.take();
}

// arXiv 2401.10241, ZB-H1: as many in flight as in 1F1B's first rank, and the W's that wait fill the end.
std::vector<Action> zb_h1(const PipelineShape& shape, int rank) {
  const std::int64_t m = shape.micro_batches;
  RankList list(shape, rank);
  times(std::min<std::int64_t>(m, shape.ranks - 1 - rank), [&] { list.forward(0); });
  for (std::int64_t i = 0; i < m; ++i) {
    if (list.forwards(0) < m) list.forward(0);
    list.backward_input(0);
    if (i >= rank) list.weight_of(0);
  }
  while (list.weight_waits(0)) list.weight_of(0);
  return list.take();
}

// arXiv 2405.15362, V-Schedule with as much memory as 1F1B (ZB-V), for n micro-batches, n >= 2 P - 1.
std::vector<Action> zb_v_of_many(const PipelineShape& shape, int rank, std::int64_t n) {
  const std::int64_t up = shape.ranks - rank;
  RankList list(shape, rank);
  const auto backward = [&](int chunk) {
    list.backward_input(chunk);
    list.weight_of(chunk);
  };
  times(2 * up - 1, [&] { list.forward(0); });
  times(rank, [&] {
    list.forward(1);
    list.forward(0);
  });
  times(up, [&] {
    list.forward(1);
    backward(1);
  });
  while (list.forwards(1) < list.forwards(0) || list.forwards(0) < n) {
    if (list.forwards(0) < n) list.forward(0);
    backward(0);
    list.forward(1);
    backward(1);
  }
  times(rank, [&] {
    list.backward_input(0);
    list.backward_input(1);
  });
  times(up, [&] {
    list.backward_input(0);
    list.weight_of(0);
  });
  for (const int chunk : {1, 0})
    while (list.weight_waits(chunk)) list.weight_of(chunk);
  return list.take();
}

// Of few micro-batches: the list of more, without those that are not there.
std::vector<Action> zb_v(const PipelineShape& shape, int rank) {
  const std::int64_t m = shape.micro_batches;
  std::vector<Action> actions = zb_v_of_many(shape, rank, std::max<std::int64_t>(m, 2 * shape.ranks - 1));
  std::erase_if(actions, [&](const Action& action) { return action.micro_batch >= m; });
  return actions;
}

// DeepSeek's DualPipe (arXiv 2412.19437, section 3.2.1) cut in half, so that a V takes the place of its two
// directions.
std::vector<Action> dualpipe_v(const PipelineShape& shape, int rank) {
  const std::int64_t up = shape.ranks - 1 - rank;
  RankList list(shape, rank);
  times(2 * up, [&] { list.forward(0); });
  times(rank + 1, [&] {
    list.forward(0);
    list.forward(1);
  });
  times(up, [&] {
    list.backward_input(1);
    list.oldest_weight();
    list.forward(1);
  });
  for (std::int64_t i = 0; i < shape.micro_batches - 2 * shape.ranks + rank + 1; ++i) {
    if (i == 0 && up == 0) {  // the turn of the V: nothing to wait for yet
      list.forward(0);
      list.backward(1);
    } else {
      list.pair(0, 1);
    }
    list.pair(1, 0);
  }
  times(up, [&] {
    list.backward(1);
    list.pair(1, 0);
  });
  // Both chunks in turn; the halves come apart in the middle.
  for (std::int64_t k = 0; k < 2 * (rank + 1); ++k) {
    const int chunk = k % 2 == 0 ? 1 : 0;
    if (k <= rank) {
      list.backward(chunk);
    } else {
      list.backward_input(chunk);
    }
  }
  times(up, [&] {
    list.oldest_weight();
    list.backward_input(0);
  });
  times(rank + 1, [&] { list.oldest_weight(); });
  return list.take();
}

constexpr std::int64_t kMostPasses = std::int64_t{1} << 24;  // no more than a typing error has

void check_interleaved(const PipelineShape& shape, PipelineOverlap overlap) {
  const auto divides = [&](std::int64_t m) { return m % std::max<std::int64_t>(1, m / shape.ranks) == 0; };
  const std::int64_t m = shape.micro_batches, fewest = 2 * std::int64_t{shape.ranks} - 1;
  if (overlap == PipelineOverlap::kPairs && m < fewest) {
    fail(ExitCode::kUsage,
         "interleaved with pairs on {} ranks needs {} micro-batches or more, here are {}: with fewer a pair "
         "would "
         "wait for itself",
         shape.ranks, fewest, m);
  }
  if (divides(m)) return;
  std::int64_t fewer = m, more = m;
  while (!divides(fewer)) --fewer;
  while (!divides(more)) ++more;
  fail(ExitCode::kUsage,
       "interleaved on {} ranks works through {} micro-batches in {} rounds, which does not divide them; {} "
       "or {} "
       "micro-batches would, and any multiple of {}",
       shape.ranks, m, interleaved_rounds(shape), fewer, more, shape.ranks);
}

void check_options(const PipelineOptions& options, const PipelineShape& shape) {
  const std::string_view name = name_of(options.kind);
  if (shape.ranks < 1 || shape.micro_batches < 1 || shape.virtual_stages < 1) {
    fail(ExitCode::kUsage, "{} with {} ranks, {} micro-batches, {} virtual stages: each must be 1 or more",
         name, shape.ranks, shape.micro_batches, shape.virtual_stages);
  }
  if (shape.micro_batches > kMostPasses / shape.stages()) {
    fail(ExitCode::kUsage,
         "{} with {} stages and {} micro-batches: more than {} passes of a micro-batch through a stage", name,
         shape.stages(), shape.micro_batches, kMostPasses);
  }
  const std::optional<int> only = virtual_stages_of(options.kind);
  if (only && shape.virtual_stages != *only) {
    fail(ExitCode::kUsage, "{} has {} on each rank, here are {} virtual stages; interleaved takes any number",
         name, *only == 1 ? "1 stage" : "the 2 stages of a V", shape.virtual_stages);
  }
  if (options.overlap == PipelineOverlap::kPairs && only) {
    fail(ExitCode::kUsage,
         "{} with pairs: only interleaved can be asked for pairs (dualpipe_v has them by itself)", name);
  }
  if (options.kind == PipelineKind::kInterleaved) check_interleaved(shape, options.overlap);
  if (options.kind == PipelineKind::kDualPipeV && shape.micro_batches < 2 * std::int64_t{shape.ranks}) {
    fail(ExitCode::kUsage,
         "dualpipe_v on {} ranks needs {} micro-batches or more, two for each rank, here are {}; zb_v takes "
         "any "
         "number",
         shape.ranks, 2 * std::int64_t{shape.ranks}, shape.micro_batches);
  }
}

std::vector<Action> list_of(const PipelineOptions& options, const PipelineShape& shape, int rank) {
  switch (options.kind) {
    case PipelineKind::k1F1B:
      return one_f_one_b(shape, rank);
    case PipelineKind::kInterleaved:
      return interleaved(shape, rank, options.overlap);
    case PipelineKind::kZbH1:
      return zb_h1(shape, rank);
    case PipelineKind::kZbV:
      return zb_v(shape, rank);
    case PipelineKind::kDualPipeV:
      return dualpipe_v(shape, rank);
  }
  return {};
}

}  // namespace

PipelineSchedule generate_schedule(const PipelineOptions& options) {
  PipelineSchedule schedule{
      .shape = {options.ranks, options.virtual_stages, options.micro_batches, placement_of(options.kind)},
      .ranks = {}};
  check_options(options, schedule.shape);
  for (int r = 0; r < options.ranks; ++r) schedule.ranks.push_back(list_of(options, schedule.shape, r));
  return schedule;
}

// Loop: rounds of P micro-batches through all chunks, the last with what is left. V: as soon as the first
// micro-batches are back from the turn, a forward of each chunk.
PipelineSchedule generate_forward_schedule(const PipelineShape& shape) {
  PipelineSchedule schedule{.shape = shape, .ranks = {}};
  const std::int64_t m = shape.micro_batches;
  for (int r = 0; r < shape.ranks; ++r) {
    RankList list(shape, r);
    if (shape.placement == StagePlacement::kLoop) {
      for (std::int64_t begin = 0; begin < m; begin += shape.ranks)
        for (int chunk = 0; chunk < shape.virtual_stages; ++chunk)
          times(std::min<std::int64_t>(shape.ranks, m - begin), [&] { list.forward(chunk); });
    } else {
      const std::int64_t ahead = std::min<std::int64_t>(m, 2 * (shape.ranks - r) - 1);
      times(ahead, [&] { list.forward(0); });
      times(m - ahead, [&] {
        list.forward(1);
        list.forward(0);
      });
      times(ahead, [&] { list.forward(1); });
    }
    schedule.ranks.push_back(list.take());
  }
  return schedule;
}

}  // namespace jevons
