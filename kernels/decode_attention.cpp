#include "kernels/decode_attention.h"

#include "kernels/op_call.h"
#include "kernels/row/decode_attention.h"
#include "kernels/row/launch.h"

namespace jevons {
namespace {

PlaceOfRow place_of(const CachePlaces& places) {
  return {places.slots.ptr<std::int32_t>(), places.positions.ptr<std::int32_t>(), places.capacity};
}

// Where the host can look.
void check_places(const char* op, const CachePlaces& places, std::int64_t cache_rows) {
  ENSURE(places.capacity > 0 && cache_rows % places.capacity == 0,
         "{}: a cache of {} rows has no whole sequences of {}", op, cache_rows, places.capacity);
  if (places.slots.device != Device::kCpu) return;
  const std::int64_t slots = cache_rows / places.capacity;
  for (std::int64_t b = 0; b < places.slots.numel(); ++b) {
    const std::int64_t slot = places.slots.ptr<std::int32_t>()[b],
                       position = places.positions.ptr<std::int32_t>()[b];
    ENSURE(slot >= 0 && slot < slots && position >= 0 && position < places.capacity,
           "{}: row {} belongs to position {} of sequence {}, but the cache has {} of {} positions", op, b,
           position, slot, slots, places.capacity);
  }
}

OpCall call_of(const char* op, const CachePlaces& places, std::int64_t rows, Device device) {
  OpCall call(op, device);
  call.reads("slots", places.slots, {rows}, DType::kI32)
      .reads("positions", places.positions, {rows}, DType::kI32);
  return call;
}

// Of a cache, `heads` of `head_dim` columns.
HeadView cache_like(const HeadView& cache, std::int64_t heads, std::int64_t head_dim) {
  return {cache.base, 0, heads, head_dim};
}

}  // namespace

void cache_heads(const Context& ctx, const CachePlaces& places, HeadView x, HeadView cache) {
  const DType dtype = x.base.dtype;
  const std::int64_t rows = x.base.shape[0], cached = cache.base.shape[0];
  call_of("cache_heads", places, rows, x.base.device)
      .reads("x", x, x, dtype)
      .uses("cache", cache, cache_like(cache, x.heads, x.head_dim), dtype)
      .moves(static_cast<double>(rows * x.heads * x.head_dim) * static_cast<double>(size_of(dtype)))
      .record(ctx, WorkKind::kRow);
  check_places("cache_heads", places, cached);
  with_float_type(dtype, [&]<class T>(TypeTag<T>) {
    launch_rows(ctx, x.base.device, rows * x.heads, x.head_dim,
                CacheHeadsKernel<T>{rows_of<const T>(x), rows_of<T>(cache), place_of(places)});
  });
}

void decode_attention(const Context& ctx, const CachePlaces& places, const DecodeAttention& op) {
  const DType dtype = op.q.base.dtype;
  const Device device = op.q.base.device;
  const std::int64_t rows = op.q.base.shape[0], cached = op.k.base.shape[0], heads = op.q.heads;
  call_of("decode_attention", places, rows, device)
      .reads("q", op.q, op.q, dtype)
      .uses("k", op.k, cache_like(op.k, op.k.heads, op.q.head_dim), dtype)
      .uses("v", op.v, cache_like(op.k, op.v.heads, op.o.head_dim), dtype)
      .writes("o", op.o, {op.q.base, 0, heads, op.o.head_dim}, dtype)
      .record(ctx, WorkKind::kRow);
  ENSURE(heads % op.k.heads == 0 && heads % op.v.heads == 0,
         "decode_attention: {} heads of queries over {} of keys and {} of values", heads, op.k.heads,
         op.v.heads);
  check_places("decode_attention", places, cached);
  ENSURE(ctx.work != nullptr, "decode_attention needs the work arena");
  const ArenaScope scope(*ctx.work);
  const Tensor scores = ctx.work->alloc({rows * heads, places.capacity}, accumulator_of(dtype));
  with_float_type(dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    launch_rows(ctx, device, rows * heads, places.capacity * (op.q.head_dim + op.o.head_dim),
                DecodeAttentionKernel<T>{rows_of<const T>(op.q), rows_of<const T>(op.k),
                                         rows_of<const T>(op.v), rows_of<T>(op.o), place_of(places),
                                         static_cast<A>(op.scale), scores.ptr<A>()});
  });
}

}  // namespace jevons
