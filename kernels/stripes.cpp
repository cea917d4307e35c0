#include "kernels/stripes.h"

#include "kernels/op_call.h"
#include "kernels/row/launch.h"
#include "kernels/row/stripes.h"

namespace jevons {

void stripe_order(const Context& ctx, const Stripes& stripes, Tensor dealt, Tensor joined) {
  const std::int64_t rows = dealt.numel();
  ENSURE(stripes.parts > 0 && stripes.run > 0 && stripes.length > 0 &&
             stripes.length % (stripes.parts * stripes.run) == 0 && rows % stripes.length == 0,
         "stripe_order: {} rows, sequences of {}, {} parts, stripes of {}", rows, stripes.length,
         stripes.parts, stripes.run);
  OpCall("stripe_order", dealt.device)
      .writes("dealt", dealt, {rows}, DType::kI32)
      .writes("joined", joined, {rows}, DType::kI32)
      .record(ctx, WorkKind::kRow);
  launch_flat(ctx, dealt.device, rows,
              StripeOrderKernel{dealt.ptr<std::int32_t>(), joined.ptr<std::int32_t>(), rows, stripes.length,
                                stripes.parts, stripes.run});
}

}  // namespace jevons
