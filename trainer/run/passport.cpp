#include "trainer/run/passport.h"

#include "trainer/run/host.h"

namespace jevons {

std::map<std::string, std::string> make_passport(const RunConfig& config, const DataIdentity& data,
                                                 int workers) {
  std::map<std::string, std::string> passport = {{"config", config.to_yaml()},
                                                 {"data", data.fingerprint},
                                                 {"sources", data.sources},
                                                 {"git", git_id()},
                                                 {"layout", config.parallel.layout.to_string()},
                                                 {"version", JEVONS_VERSION},
                                                 {"workers", std::to_string(workers)}};
  if (!data.tokenizer_hash.empty()) {
    passport["tokenizer"] = data.tokenizer;
    passport["tokenizer_hash"] = data.tokenizer_hash;
  }
  return passport;
}

}  // namespace jevons
