// Runs a fuzz target on a fixed set of inputs without libFuzzer: each seed as it is, cut at every length,
// with every byte replaced by telling values, and thousands of random mixtures of such changes. The same
// inputs every time.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "kernels/core/rng.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

constexpr std::uint64_t kMixtures = 5000;  // per seed
constexpr unsigned char kTellingBytes[] = {0x00, 0x01, 0x7f, 0x80, 0xff};

class Runner {
 public:
  void run(const std::string& input) {
    ++inputs_;
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
  }
  std::uint64_t inputs() const { return inputs_; }

 private:
  std::uint64_t inputs_ = 0;
};

// One random change: a flipped bit, a telling byte, 8 equal bytes, a cut, a repeated stretch.
void change(std::string& input, const jevons::RandomStream& random, std::uint64_t& draw) {
  if (input.empty()) return;
  const std::size_t at = random.below(draw++, input.size());
  const std::uint64_t value = random.bits(draw++);
  switch (random.below(draw++, 5)) {
    case 0:
      input[at] = static_cast<char>(input[at] ^ (1 << (value & 7)));
      break;
    case 1:
      input[at] = static_cast<char>(kTellingBytes[value % sizeof(kTellingBytes)]);
      break;
    case 2:
      std::memset(input.data() + at, static_cast<int>(value & 0xff),
                  std::min<std::size_t>(8, input.size() - at));
      break;
    case 3:
      input.resize(at);
      break;
    default:
      input.insert(at, input.substr(at, 1 + value % 16));
      break;
  }
}

void run_all(const std::string& seed, std::uint64_t number, Runner& runner) {
  for (std::size_t size = 0; size <= seed.size(); ++size) runner.run(seed.substr(0, size));
  for (std::size_t at = 0; at < seed.size(); ++at) {
    for (const unsigned char byte : kTellingBytes) {
      std::string input = seed;
      input[at] = static_cast<char>(byte);
      runner.run(input);
    }
  }
  const jevons::RandomStream random(number, "fuzz");
  std::uint64_t draw = 0;
  for (std::uint64_t i = 0; i < kMixtures; ++i) {
    std::string input = seed;
    for (std::uint64_t changes = 1 + random.below(draw++, 6); changes > 0; --changes)
      change(input, random, draw);
    runner.run(input);
  }
}

}  // namespace

int main() {
  Runner runner;
  try {
    std::uint64_t number = 0;
    for (const std::string& seed : fuzz_seeds()) run_all(seed, number++, runner);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "input %llu escaped: %s\n", static_cast<unsigned long long>(runner.inputs()),
                 error.what());
    return 1;
  }
  std::printf("%llu inputs\n", static_cast<unsigned long long>(runner.inputs()));
  return 0;
}
