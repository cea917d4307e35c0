// What a run is, in texts for its directory and its checkpoints: configuration, layout, data, versions.
#pragma once

#include <map>
#include <string>

#include "trainer/config/run_config.h"

namespace jevons {

// What a run reads.
struct DataIdentity {
  std::string fingerprint;                // DataLoader::fingerprint
  std::string sources;                    // passport_of_sources
  std::string tokenizer, tokenizer_hash;  // of the tokens; "" if no file says it
};

// `config` must be resolved for the `workers`.
std::map<std::string, std::string> make_passport(const RunConfig& config, const DataIdentity& data,
                                                 int workers);

}  // namespace jevons
