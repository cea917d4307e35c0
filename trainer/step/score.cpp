#include "trainer/step/score.h"

#include <algorithm>
#include <array>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "parallel/agree.h"
#include "trainer/checkpoint/commit.h"
#include "trainer/io/file.h"
#include "trainer/io/npy.h"
#include "trainer/step/evaluate.h"

namespace jevons {
namespace {

// The row that this worker reads in a round, a sequence each; past the end there is none.
std::optional<std::int64_t> row_of(ModelWorker& worker, std::int64_t round, std::int64_t rows) {
  const std::int64_t row = round * worker.dp_size() + worker.dp_rank();
  return row < rows ? std::optional(row) : std::nullopt;
}

std::int64_t rounds_of(const ModelWorker& worker, std::int64_t rows) {
  return (rows + worker.dp_size() - 1) / worker.dp_size();
}

std::span<const std::int32_t> tokens_of(const TokenRows& rows, std::int64_t row) {
  const auto length = static_cast<std::size_t>(rows.length);
  return std::span(rows.tokens).subspan(static_cast<std::size_t>(row) * length, length);
}

void fill(ModelWorker& worker, const TokenRows& rows, std::int64_t round, HostBatch& batch) {
  const BatchView view = batch.view();
  std::fill(view.tokens.begin(), view.tokens.end(), 0);
  std::fill(view.targets.begin(), view.targets.end(), -1);
  std::fill(view.doc_start.begin(), view.doc_start.end(), 0);
  const std::optional<std::int64_t> row = row_of(worker, round, rows.rows());
  if (!row) return;
  const auto tokens = tokens_of(rows, *row);
  std::copy(tokens.begin(), tokens.end(), view.tokens.begin());
  const std::int64_t targets = rows.lengths[static_cast<std::size_t>(*row)] - 1;
  if (targets > 0) std::copy_n(tokens.begin() + 1, targets, view.targets.begin());
}

// Logits (length, V / tp) fp32 on the host of the row of this round. Collective.
std::vector<float> logits_of(ModelWorker& worker, const TokenRows& rows, std::int64_t round) {
  const Context& ctx = worker.ctx();
  HostBatch batch(1, rows.length, ctx.device);
  fill(worker, rows, round, batch);
  worker.reset_arenas();
  const Tensor tokens = ctx.stash->alloc({rows.length}, DType::kI32);
  copy_async(ctx.stream, tokens, {batch.tokens.data(), tokens.shape, tokens.dtype, Device::kCpu});
  const Tensor logits = worker.stages().whole().logits(ctx, tokens);
  const Tensor wide = ctx.stash->alloc(logits.shape, DType::kF32);
  cast(ctx, logits, wide);
  std::vector<float> host(static_cast<std::size_t>(wide.numel()));
  copy_and_wait(ctx.stream, {host.data(), wide.shape, wide.dtype, Device::kCpu}, wide);
  worker.finish_passes();
  return host;
}

// Columns [first, first + count) of every position of a row.
void write_part(File& file, std::uint64_t begin, std::int64_t vocab, std::int64_t first,
                std::span<const float> logits, std::int64_t length) {
  const std::size_t count = logits.size() / static_cast<std::size_t>(length);
  for (std::int64_t t = 0; t < length; ++t) {
    const auto part = logits.subspan(static_cast<std::size_t>(t) * count, count);
    const auto bytes = std::as_bytes(part);
    file.write_at(begin + static_cast<std::uint64_t>(t * vocab + first) * sizeof(float),
                  {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
}

}  // namespace

std::optional<double> score(ModelWorker& worker, const TokenRows& rows) {
  ENSURE(worker.config().model.seq_len == rows.length && worker.config().train.micro_batch_size == 1,
         "rows of {} tokens", rows.length);
  const auto read = [&](std::int64_t round, HostBatch& batch) { fill(worker, rows, round, batch); };
  return evaluate(worker, rounds_of(worker, rows.rows()), read).loss;
}

void write_logits(ModelWorker& worker, const TokenRows& rows, const std::string& path) {
  Communicator& world = worker.mesh().world();
  const std::int64_t vocab = worker.config().model.vocab_size;
  const std::array shape = {rows.rows(), rows.length, vocab};
  const std::string header = format_npy_header("<f4", shape), unfinished = path + ".unfinished";
  std::optional<TemporaryFile> until_the_end;
  agree(world, [&] {
    if (world.rank() != 0) return;
    write_new_file(unfinished, header);
    until_the_end.emplace(unfinished);
  });
  std::optional<File> file;
  agree(world, [&] { file = File::update(unfinished); });
  for (std::int64_t round = 0; round < rounds_of(worker, rows.rows()); ++round) {
    const std::vector<float> logits =
        worker.with_memory_report([&] { return logits_of(worker, rows, round); });
    agree(world, [&] {
      const std::optional<std::int64_t> row = row_of(worker, round, rows.rows());
      if (!row) return;
      const std::int64_t first = worker.mesh().tp().rank() * (vocab / worker.mesh().tp().size());
      const auto begin =
          header.size() + static_cast<std::uint64_t>(*row * rows.length * vocab) * sizeof(float);
      write_part(*file, begin, vocab, first, logits, rows.length);
    });
  }
  agree(world, [&] { file->sync(); });
  agree(world, [&] {
    if (world.rank() == 0) rename_durably(unfinished, path);
  });
}

}  // namespace jevons
