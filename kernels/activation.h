// SwiGLU (Shazeer, arXiv:2002.05202): h = silu(gate) * up, with an optional factor per row (the router's
// weight).
#pragma once

#include "kernels/core/context.h"

namespace jevons {

// gate_up (R, 2F) holds gate in its first F columns and up in the rest; h (R, F). row_scale (R) accumulator
// dtype or undefined: h = row_scale * silu(gate) * up.
void swiglu_forward(const Context&, Tensor gate_up, Tensor row_scale, Tensor h);
// d_gate_up (R, 2F) assigned, may be gate_up itself. With row_scale: d_row_scale (R) = sum_f dh * silu(gate)
// * up.
void swiglu_backward(const Context&, Tensor dh, Tensor gate_up, Tensor row_scale, Tensor d_gate_up,
                     Tensor d_row_scale);

}  // namespace jevons
