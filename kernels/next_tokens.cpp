#include "kernels/next_tokens.h"

#include "kernels/op_call.h"
#include "kernels/row/launch.h"
#include "kernels/row/next_tokens.h"

namespace jevons {
namespace {

void check_ahead(const char* op, const LookAhead& ahead, std::int64_t rows) {
  ENSURE(ahead.length > 0 && ahead.by > 0 && rows % ahead.length == 0,
         "{}: {} rows, sequences of {}, {} rows ahead", op, rows, ahead.length, ahead.by);
}

}  // namespace

void look_ahead(const Context& ctx, const SequenceTokens& of, const LookAhead& ahead, Tensor ids,
                Tensor targets) {
  const std::int64_t rows = ids.numel();
  check_ahead("look_ahead", ahead, rows);
  OpCall call("look_ahead", ids.device);
  call.reads("tokens", of.tokens, {rows}, DType::kI32)
      .reads("targets", of.targets, {rows}, DType::kI32)
      .writes("ids", ids, {rows}, DType::kI32)
      .writes("targets ahead", targets, {rows}, DType::kI32);
  if (of.doc_start.defined()) call.reads("doc_start", of.doc_start, {rows}, DType::kI32);
  call.record(ctx, WorkKind::kRow);
  const std::int32_t* const doc_start = of.doc_start.defined() ? of.doc_start.ptr<std::int32_t>() : nullptr;
  launch_flat(ctx, ids.device, rows,
              LookAheadKernel{{of.targets.ptr<std::int32_t>(), doc_start, ahead.length, ahead.by},
                              of.tokens.ptr<std::int32_t>(),
                              ids.ptr<std::int32_t>(),
                              targets.ptr<std::int32_t>(),
                              rows});
}

std::int64_t count_targets_ahead(std::span<const std::int32_t> targets,
                                 std::span<const std::int32_t> doc_start, const LookAhead& ahead) {
  const auto rows = std::ssize(targets);
  check_ahead("count_targets_ahead", ahead, rows);
  const TargetsAhead of{targets.data(), doc_start.empty() ? nullptr : doc_start.data(), ahead.length,
                        ahead.by};
  std::int64_t count = 0;
  for (std::int64_t row = 0; row < rows; ++row) count += of[row] >= 0 ? 1 : 0;
  return count;
}

void best_tokens(const Context& ctx, Tensor logits, std::int64_t vocab_begin, Tensor best) {
  const std::int64_t rows = logits.rows(), cols = logits.cols();
  OpCall("best_tokens", logits.device)
      .reads("logits", logits, {rows, cols}, logits.dtype)
      .writes("best", best, {rows, 2}, accumulator_of(logits.dtype))
      .record(ctx, WorkKind::kRow);
  with_float_type(logits.dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    launch_rows(ctx, logits.device, rows, cols,
                BestTokensKernel<T>{logits.ptr<T>(), best.ptr<A>(), cols, vocab_begin});
  });
}

void best_of_parts(const Context& ctx, Tensor gathered, Tensor tokens) {
  const std::int64_t parts = gathered.shape[0], rows = tokens.numel();
  OpCall("best_of_parts", gathered.device)
      .reads("gathered", gathered, {parts, rows, 2}, gathered.dtype)
      .writes("tokens", tokens, {rows}, DType::kI32)
      .record(ctx, WorkKind::kRow);
  with_accumulator_type(gathered.dtype, [&]<class A>(TypeTag<A>) {
    launch_flat(ctx, gathered.device, rows,
                BestOfPartsKernel<A>{gathered.ptr<A>(), tokens.ptr<std::int32_t>(), parts, rows});
  });
}

void agreement(const Context& ctx, const Choices& choices, const LookAhead& ahead, Tensor agrees) {
  const std::int64_t rows = agrees.numel();
  check_ahead("agreement", ahead, rows);
  OpCall("agreement", agrees.device)
      .reads("model", choices.model, {rows}, DType::kI32)
      .reads("ahead", choices.ahead, {rows}, DType::kI32)
      .reads("targets", choices.targets, {rows}, DType::kI32)
      .writes("agrees", agrees, {rows}, DType::kF32)
      .record(ctx, WorkKind::kRow);
  launch_flat(ctx, agrees.device, rows,
              AgreementKernel{choices.model.ptr<std::int32_t>(), choices.ahead.ptr<std::int32_t>(),
                              choices.targets.ptr<std::int32_t>(), agrees.ptr<float>(), rows, ahead.by});
}

}  // namespace jevons
