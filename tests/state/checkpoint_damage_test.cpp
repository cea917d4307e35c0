// Whatever happens to a byte of a checkpoint, reading it says so and names the file and, in the data, the
// tensor.
#include <algorithm>
#include <filesystem>

#include "tests/state/checkpoint_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/safetensors.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// The tensor that byte `at` of a safetensors file belongs to; "" for the header.
std::string tensor_at(const std::string& file, std::size_t at) {
  const std::uint64_t data = safetensors_header_bytes(as_bytes(file), file.size(), "file");
  if (at < data) return {};
  for (const SafetensorsEntry& entry :
       parse_safetensors_header(as_bytes(file), file.size(), "file").entries) {
    if (at - data < entry.end) return entry.key.substr(0, entry.key.find('@'));
  }
  return "beyond the end";
}

std::string verify_error(const std::string& path) {
  ExitCode code = ExitCode::kData;
  const std::string message = error_of([&] { CheckpointReader(path).verify(); }, &code);
  return code == ExitCode::kData ? message : "wrong exit code: " + message;
}

// A whole read through every box, as a resumed run does it.
std::string read_error(const std::string& path) {
  return error_of([&] { CheckpointReader(path).read(holding_of(0, 1, Sharding::kRows).boxes); });
}

}  // namespace

TEST_CASE("every flipped byte is found and named") {
  const Scratch scratch;
  const std::string path = save_filled(scratch.path(), some_state(3), 2, Sharding::kFlat);
  std::size_t flips = 0;
  for (const auto& [name, original] : files_of(path)) {
    for (std::size_t at = 0; at < original.size(); at += 3) {
      std::string damaged = original;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
      write_contents(fs::path(path) / name, damaged);
      const std::string wanted = name == "manifest.pb" ? name : tensor_at(original, at);
      const std::string message = verify_error(path);
      const bool named = message.find(name) != std::string::npos && message.find(wanted) != std::string::npos;
      if (!named || read_error(path) != message) {
        FAIL_CHECK(name << " byte " << at << ": verify says '" << message << "', read '" << read_error(path)
                        << "'");
      }
      ++flips;
    }
    write_contents(fs::path(path) / name, original);
  }
  CHECK(flips > 1000);
  CHECK(verify_error(path) == "");
}

TEST_CASE("every truncation, extension and loss of a file is found") {
  const Scratch scratch;
  const std::string path = save_filled(scratch.path(), some_state(3), 2, Sharding::kRows);
  for (const auto& [name, original] : files_of(path)) {
    for (std::size_t length = 0; length < original.size(); length += 7) {
      write_contents(fs::path(path) / name, original.substr(0, length));
      const std::string message = verify_error(path);
      if (message.find(name) == std::string::npos)
        FAIL_CHECK(name << " cut to " << length << ": '" << message << "'");
    }
    write_contents(fs::path(path) / name, original + 'x');
    CHECK(verify_error(path).find(name) != std::string::npos);
    fs::remove(fs::path(path) / name);
    CHECK(verify_error(path).find(name) != std::string::npos);
    write_contents(fs::path(path) / name, original);
  }
  CHECK(verify_error(path) == "");
}

TEST_CASE("files exchanged between two good checkpoints are found") {
  const Scratch scratch;
  const std::string path = save_filled(scratch.path("a"), some_state(3), 2, Sharding::kRows);
  const std::string other = save_filled(scratch.path("b"), some_state(4), 2, Sharding::kRows);
  fs::copy_file(other + "/rank-00001.safetensors", path + "/rank-00001.safetensors",
                fs::copy_options::overwrite_existing);
  CHECK(verify_error(path).find("rank-00001.safetensors: checksum mismatch") != std::string::npos);
}

}  // namespace jevons::test
