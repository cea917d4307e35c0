// Runs a fuzz target without libFuzzer: every seed, then mutations of the seeds from a fixed random sequence,
// so that a failure comes back with the same command. usage: fuzz_<name> seed_directory [seconds]
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr int kMutations = 20000;
constexpr std::size_t kMaxBytes = 4096;

std::vector<Bytes> read_seeds(const std::string& directory) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> seeds;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return seeds;
}

// One random change: a byte, a bit, a cut, a repetition, or a piece of another seed.
void mutate(Bytes& bytes, const Bytes& other, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random() % n); };
  const auto at = [&](std::size_t i) { return bytes.begin() + static_cast<std::ptrdiff_t>(i); };
  const std::size_t place = below(bytes.size());
  const std::size_t length = below(std::min<std::size_t>(bytes.size() - place, 32) + 1);
  switch (below(6)) {
    case 0:
      if (!bytes.empty()) bytes[place] = static_cast<std::uint8_t>(random());
      break;
    case 1:
      if (!bytes.empty()) bytes[place] ^= static_cast<std::uint8_t>(1u << below(8));
      break;
    case 2:
      bytes.erase(at(place), at(place + length));
      break;
    case 3: {
      const Bytes piece(at(place), at(place + length));
      bytes.insert(at(below(bytes.size() + 1)), piece.begin(), piece.end());
      break;
    }
    case 4:
      bytes.insert(at(place), static_cast<std::uint8_t>(random()));
      break;
    default: {
      const std::size_t start = below(other.size());
      const std::size_t count = below(std::min<std::size_t>(other.size() - start, 64) + 1);
      bytes.insert(at(place), other.begin() + static_cast<std::ptrdiff_t>(start),
                   other.begin() + static_cast<std::ptrdiff_t>(start + count));
    }
  }
  if (bytes.size() > kMaxBytes) bytes.resize(kMaxBytes);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s seed_directory [seconds]\n", argv[0]);
    return 2;
  }
  const std::vector<Bytes> seeds = read_seeds(argv[1]);
  if (seeds.empty()) {
    std::fprintf(stderr, "%s: no seeds\n", argv[1]);
    return 2;
  }
  for (const Bytes& seed : seeds) LLVMFuzzerTestOneInput(seed.data(), seed.size());

  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::seconds(argc > 2 ? std::atoi(argv[2]) : 8);
  std::mt19937_64 random(1);
  int runs = 0;
  for (; runs < kMutations && std::chrono::steady_clock::now() < deadline; ++runs) {
    Bytes bytes = seeds[random() % seeds.size()];
    const int changes = 1 + static_cast<int>(random() % 6);
    for (int i = 0; i < changes; ++i) mutate(bytes, seeds[random() % seeds.size()], random);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%zu seeds, %d mutations\n", seeds.size(), runs);
  return 0;
}
