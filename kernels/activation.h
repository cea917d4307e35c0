// SwiGLU (Shazeer, arXiv:2002.05202): h = silu(gate) * up, with an optional factor per row (the router's
// weight), and an optional limit of gate and up.
#pragma once

#include "kernels/core/context.h"

namespace jevons {

struct SwigluInput {
  Tensor gate_up;         // (R, 2F): gate in its first F columns, up in the rest
  Tensor row_scale = {};  // (R) accumulator dtype, or undefined = 1
  // Of gate from above, of up on both sides: gate becomes min(gate, limit), up is brought into [-limit,
  // limit], in the accumulator dtype. A gradient is 0 where its input is beyond. 0: no limit.
  double limit = 0;
};

// h (R, F) = row_scale * silu(gate) * up.
void swiglu_forward(const Context&, const SwigluInput&, Tensor h);
// d_gate_up (R, 2F) assigned, may be gate_up itself. With row_scale: d_row_scale (R) = sum_f dh * silu(gate)
// * up.
void swiglu_backward(const Context&, Tensor dh, const SwigluInput&, Tensor d_gate_up, Tensor d_row_scale);

}  // namespace jevons
