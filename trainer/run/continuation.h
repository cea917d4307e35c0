// What may change between two launches of a run, and what may not.
#pragma once

#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"

namespace jevons {

// This launch, as a checkpoint's passport would describe it.
struct LaunchFacts {
  std::string config;               // resolved YAML
  std::string data;                 // the loader's fingerprint
  std::string tokenizer_hash = "";  // of the tokens; "" if unknown
  std::string layout;               // Layout::to_string
  bool allow_data_change = false;
};

// Compares a checkpoint's passport with this launch. Throws Error(kUsage) with the changed keys if the model
// is another one, Error(kData) if the tokens are of another tokenizer, or the token files are others and
// data.allow_change does not say that this is meant; `path` names the checkpoint in messages. Returns what
// else changed of how the run trains, "key: old
// -> new": layout, batch, precision, learning rate, data. What only concerns saving, cost and threads is not
// listed.
std::vector<std::string> check_continuation(const TrainState& saved, const std::string& path,
                                            const LaunchFacts& now);

// The options of the model that differ from those of a checkpoint, "key: checkpoint -> configuration".
std::vector<std::string> model_differences(const TrainState& saved, const std::string& path,
                                           const std::string& config);

// Every option that differs between two checkpoints' passports, "key: a -> b".
std::vector<std::string> config_differences(const TrainState& a, const std::string& path_a,
                                            const TrainState& b, const std::string& path_b);

}  // namespace jevons
