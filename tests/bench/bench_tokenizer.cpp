// Encodes a text in stretches of 200 lines, as scripts/bench_tokenizer has the other programs do.
// usage: bench_tokenizer TOKENIZER TEXT [THREADS [ROUNDS]]      prints per round: MB/s, MB per CPU-second,
// tokens
#include <fmt/core.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>

#include "data/encoder_pool.h"
#include "kernels/core/error.h"

namespace {

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::vector<std::string> stretches(const std::string& text) {
  std::vector<std::string> all;
  std::size_t begin = 0;
  int lines = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '\n' || ++lines % 200 != 0) continue;
    all.push_back(text.substr(begin, at + 1 - begin));
    begin = at + 1;
  }
  if (begin < text.size()) all.push_back(text.substr(begin));
  return all;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) return static_cast<int>(jevons::ExitCode::kUsage);
  const auto tokenizer = jevons::load_tokenizer(argv[1]);
  std::ifstream in(argv[2], std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const int threads = argc > 3 ? std::atoi(argv[3]) : 1, rounds = argc > 4 ? std::atoi(argv[4]) : 1;
  const std::vector<std::string> parts = stretches(text);
  for (int round = 0; round < rounds; ++round) {
    std::size_t tokens = 0;
    // A cold cache every round: the pool makes its encoders.
    const auto begin = std::chrono::steady_clock::now();
    const double cpu = cpu_seconds();
    jevons::EncoderPool pool(*tokenizer, jevons::Specials::kAreText, threads,
                             [&](const jevons::EncodedJob& job) { tokens += job.ids.size(); });
    for (const std::string& part : parts)
      pool.submit({part, {{part.size(), jevons::TextPart::kBeginning, true}}});
    pool.finish();
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const double megabytes = static_cast<double>(text.size()) / 1e6;
    fmt::print("{:.2f} {:.2f} {}\n", megabytes / wall, megabytes / (cpu_seconds() - cpu), tokens);
  }
  return 0;
} catch (const jevons::Error& error) {
  fmt::print(stderr, "{}\n", error.what());
  return static_cast<int>(error.code());
}
