// A call of prepare_tokens in a directory of its own.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "data/prepare.h"
#include "data/token_file.h"
#include "data/tokenizer.h"
#include "tests/data/temp_files.h"

namespace jevons {

// The documents of a pair as text, each without its separator.
inline std::vector<std::string> documents_of(const std::string& prefix) {
  const TokenFile file(prefix);
  std::vector<std::string> documents;
  for (std::int64_t d = 0; d < file.index()->num_documents(); ++d) {
    const std::int64_t begin = file.index()->document_begin(d), end = file.index()->document_begin(d + 1);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(end - begin));
    file.read(begin, ids, 256);
    REQUIRE(!ids.empty());
    CHECK(ids.back() == 0);
    CHECK(std::count(ids.begin(), ids.end(), 0) == 1);
    documents.push_back(ByteTokenizer().decode(ids));
  }
  return documents;
}

using Documents = std::vector<std::string>;

struct Preparation {
  TempDir dir;
  PrepareOptions options;
  PrepareSummary summary;

  Preparation() { options.output = dir / "out"; }

  void input(const std::string& name, const std::string& content) {
    write_bytes(dir / name, content);
    options.inputs.push_back(dir / name);
  }
  Documents run() {
    summary = prepare_tokens(options);
    return documents_of(options.output);
  }
  std::string error(ExitCode code = ExitCode::kData) {
    const std::string message = message_of(code, [&] { prepare_tokens(options); });
    CHECK(!std::filesystem::exists(dir / "out.bin"));
    CHECK(!std::filesystem::exists(dir / "out.idx"));
    return message;
  }
};

}  // namespace jevons
