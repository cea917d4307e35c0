// Whatever happens to a byte of a checkpoint, reading it says so and names the file and, in the data, the
// tensor. One process damages and reads files, thousands of times: the ranks that write them are its threads.
#include <algorithm>
#include <filesystem>

#include "kernels/core/rng.h"
#include "tests/state/checkpoint_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/io/safetensors.h"

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

bool has_part(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
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

TEST_CASE("every flipped byte is found and named", "[threads]") {
  const Scratch scratch;
  const std::string path = save_filled(scratch.path(), some_state(3), 2, Sharding::kFlat);
  std::size_t flips = 0;
  for (const auto& [name, original] : files_of(path)) {
    for (std::size_t at = 0; at < original.size(); ++at) {
      const std::string wanted = name == "manifest.pb" ? name : tensor_at(original, at);
      // One bit, another one for each byte; in headers and the manifest also all bits.
      for (const int bits : {1 << at % 8, 0xff}) {
        if (bits == 0xff && wanted != "" && wanted != name) continue;
        std::string damaged = original;
        damaged[at] = static_cast<char>(damaged[at] ^ bits);
        write_contents(fs::path(path) / name, damaged);
        const std::string message = verify_error(path);
        const bool named = has_part(message, name) && has_part(message, wanted);
        if (!named || read_error(path) != message) {
          FAIL_CHECK(name << " byte " << at << ": verify says '" << message << "', read '" << read_error(path)
                          << "'");
        }
        ++flips;
      }
    }
    write_contents(fs::path(path) / name, original);
  }
  CHECK(flips > 5000);
  CHECK(verify_error(path) == "");
}

TEST_CASE("every truncation, extension and loss of a file is found", "[threads]") {
  const Scratch scratch;
  const std::string path = save_filled(scratch.path(), some_state(3), 2, Sharding::kRows);
  for (const auto& [name, original] : files_of(path)) {
    for (std::size_t length = 0; length < original.size(); ++length) {
      write_contents(fs::path(path) / name, original.substr(0, length));
      const std::string message = verify_error(path);
      if (!has_part(message, name) || !has_part(read_error(path), name))
        FAIL_CHECK(name << " cut to " << length << ": '" << message << "'");
    }
    write_contents(fs::path(path) / name, original + 'x');
    CHECK(has_part(verify_error(path), name));
    fs::remove(fs::path(path) / name);
    CHECK(has_part(verify_error(path), name));
    write_contents(fs::path(path) / name, original);
  }
  CHECK(verify_error(path) == "");
}

// Larger than the buffer that it is read through.
TEST_CASE("damage anywhere in a large tensor is found and named") {
  const Scratch scratch;
  constexpr std::int64_t kRows = 2500, kColumns = 1024;  // 10 MB
  std::string path;
  run_ranks(1, [&](Communicator& world) {
    Holding holding;
    holding.add("large", {kRows, kColumns}, {0, 0}, {kRows, kColumns}, DType::kF32);
    fill(holding.boxes[0]);
    path = save_checkpoint(world, scratch.path(), some_state(1), holding.boxes);
  });
  const std::string file = path + "/rank-00000.safetensors";
  const std::string original = contents_of(file);
  const std::size_t size = original.size(), data = size - kRows * kColumns * 4;
  std::vector<std::size_t> places = {data, size - 1};
  for (std::size_t border = std::size_t{1} << 20; border < size - data; border += std::size_t{1} << 20) {
    for (const std::size_t at : {border - 1, border}) places.push_back(data + at);
  }
  const RandomStream random(5, "places");
  for (std::uint64_t i = 0; i < 40; ++i) places.push_back(data + random.below(i, size - data));
  for (const std::size_t at : places) {
    INFO("byte " << at);
    std::string damaged = original;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    write_contents(file, damaged);
    CHECK(has_part(verify_error(path), "rank-00000.safetensors"));
    CHECK(has_part(verify_error(path), "'large'"));
    fs::resize_file(file, at);  // truncated there
    CHECK(has_part(verify_error(path), "rank-00000.safetensors"));
  }
  write_contents(file, original);
  CHECK(verify_error(path) == "");
}

TEST_CASE("files exchanged between two good checkpoints are found", "[threads]") {
  const Scratch scratch;
  const std::string path = save_filled(scratch.path("a"), some_state(3), 2, Sharding::kRows);
  const std::string other = save_filled(scratch.path("b"), some_state(4), 2, Sharding::kRows);
  fs::copy_file(other + "/rank-00001.safetensors", path + "/rank-00001.safetensors",
                fs::copy_options::overwrite_existing);
  CHECK(verify_error(path).find("rank-00001.safetensors: checksum mismatch") != std::string::npos);
}

}  // namespace jevons::test
