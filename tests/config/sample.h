// A small, good configuration of 16 lines.
#pragma once

#include <string>

namespace jevons::test {

inline const std::string kSample =
    "model:\n"
    "  vocab_size: 256\n"
    "  num_layers: 2\n"
    "  hidden_size: 64\n"
    "  num_heads: 4\n"
    "  num_kv_heads: 2\n"
    "  seq_len: 32\n"
    "  # experts\n"
    "  moe:\n"
    "    num_experts: 8\n"
    "    top_k: 2\n"
    "    expert_hidden_size: 32\n"
    "\n"
    "train:\n"
    "  steps: 10\n"
    "  global_batch_size: 8\n";

}  // namespace jevons::test
