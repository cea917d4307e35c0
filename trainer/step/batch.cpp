#include "trainer/step/batch.h"

#include <algorithm>

#include "kernels/next_tokens.h"
#include "parallel/host_exchange.h"

namespace jevons {
namespace {

// The sequences of a pass, in ctx.stash.
MicroBatch micro_batch(const ModelWorker& worker, const Context& ctx, const HostBatch& batch,
                       std::int64_t pass) {
  const RunConfig& c = worker.config();
  const std::int64_t rows = worker.sequences_per_pass() * c.model.seq_len, begin = pass * rows;
  const auto place = [&](std::span<std::int32_t> data) {
    const Tensor t = ctx.stash->alloc({rows}, DType::kI32);
    copy_async(ctx.stream, t, {data.data() + begin, t.shape, t.dtype, Device::kCpu});
    return t;
  };
  MicroBatch m{.tokens = place(batch.tokens), .targets = place(batch.targets), .doc_start = {}};
  if (c.data.document_mask) m.doc_start = place(batch.doc_start);
  return m;
}

}  // namespace

HostBatch::HostBatch(std::int64_t n, std::int64_t seq_len, Device device)
    : memory(Buffer::pinned_for(device == Device::kCuda ? device : Device::kCpu,
                                static_cast<std::size_t>(3 * n * seq_len) * sizeof(std::int32_t))),
      sequences(n) {
  const Tensor rows = memory.view(0, {3, n * seq_len}, DType::kI32);
  tokens = rows.slice(0, 1).span<std::int32_t>();
  targets = rows.slice(1, 2).span<std::int32_t>();
  doc_start = rows.slice(2, 3).span<std::int32_t>();
}

std::int64_t micro_batches_of(const ModelWorker& worker, const HostBatch& batch) {
  return batch.sequences / worker.sequences_per_pass();
}

PassHooks hooks_of(ModelWorker& worker, const HostBatch& batch) {
  return {.read = [&](const Context& ctx, std::int64_t i) { return micro_batch(worker, ctx, batch, i); },
          .figures = [&](std::int64_t) { return worker.figures().add_row(worker.ctx()); }};
}

std::vector<std::int64_t> count_targets(const ModelWorker& worker, const HostBatch& batch) {
  const RunConfig& c = worker.config();
  std::vector<std::int64_t> counts = {std::ranges::count_if(batch.targets, [](auto t) { return t >= 0; })};
  std::span<const std::int32_t> doc_start;
  if (c.data.document_mask) doc_start = batch.doc_start;
  for (std::int64_t depth = 0; depth < c.model.mtp.depth; ++depth) {
    counts.push_back(count_targets_ahead(batch.targets, doc_start, {c.model.seq_len, depth + 1}));
  }
  return counts;
}

std::vector<std::int64_t> global_targets(ModelWorker& worker, std::vector<std::int64_t> counts) {
  if (worker.mesh().cp().rank() != 0) std::ranges::fill(counts, 0);
  all_reduce(worker.mesh().replicas(), std::span(counts));
  return counts;
}

}  // namespace jevons
