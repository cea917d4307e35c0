// The document mask by keys, from the mask by queries.
#pragma once

#include <cstdint>

#include "kernels/core/stream.h"

namespace jevons::cuda {

// starts (batch * seq): for every query the first position of its document, not decreasing within a sequence.
// ends (batch * seq): for every key the first later position whose document begins behind it, or seq. So a
// query sees a key that is not behind it if and only if the query comes before the key's end.
void document_ends(const Stream& stream, std::int64_t batch, std::int64_t seq, const std::int32_t* starts,
                   std::int32_t* ends);

}  // namespace jevons::cuda
