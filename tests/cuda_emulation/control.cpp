#include "control.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "checker.h"
#include "findings.h"
#include "streams.h"

namespace emulation {
namespace {

constexpr std::size_t kMostFindings = 50;
constexpr int kExitCode = 66;

std::vector<std::string>& findings() {
  static std::vector<std::string> list;
  return list;
}

[[noreturn]] void bad_setting(const std::string& word) {
  std::fprintf(stderr, "emulation: JEVONS_EMULATION: cannot read '%s'\n", word.c_str());
  std::exit(kExitCode);
}

void set(Settings& settings, const std::string& word) {
  const std::size_t equals = word.find('=');
  const std::string key = word.substr(0, equals),
                    value = equals == std::string::npos ? "" : word.substr(equals + 1);
  const auto choice = [&](auto first, const char* a, const char* b, const char* c) {
    for (int i = 0; const char* name : {a, b, c}) {
      if (value == name) return static_cast<decltype(first)>(i);
      ++i;
    }
    bad_setting(word);
  };
  try {
    if (key == "order")
      settings.order = choice(Order{}, "natural", "reverse", "random");
    else if (key == "streams")
      settings.streams = choice(Streams{}, "eager", "lazy", "random");
    else if (key == "seed")
      settings.seed = std::stoull(value);
    else if (key == "guard")
      settings.guard = std::stoi(value) != 0;
    else if (key == "devices")
      settings.devices = std::stoi(value);
    else if (key == "memory")
      settings.memory = std::stoull(value) << 20;
    else if (key == "code")
      settings.code = std::stoi(value) != 0;
    else if (key == "pools")
      settings.pools = std::stoi(value) != 0;
    else if (key == "mapping")
      settings.mapping = std::stoi(value) != 0;
    else if (key == "fill")
      settings.fill = std::stoi(value) != 0;
    else if (key == "allocations_fail_after")
      settings.allocations_fail_after = std::stoi(value);
    else if (key == "exact_algorithms")
      settings.exact_algorithms = std::stoi(value) != 0;
    else if (key == "steady_attention")
      settings.steady_attention = std::stoi(value) != 0;
    else if (key == "attention_backward")
      settings.attention_backward = std::stoi(value) != 0;
    else if (key == "nccl_fails")
      settings.nccl_fails = std::stoi(value);
    else if (key == "nccl_stalls")
      settings.nccl_stalls = std::stoi(value);
    else if (key == "nccl_tells")
      settings.nccl_tells = std::stoi(value);
    else if (key == "nccl_start_hangs")
      settings.nccl_start_hangs = std::stoi(value);
    else
      bad_setting(word);
  } catch (const std::logic_error&) {
    bad_setting(word);
  }
}

Settings& current() {
  static Settings settings = [] {
    Settings from_environment;
    const char* text = std::getenv("JEVONS_EMULATION");
    std::istringstream words(text == nullptr ? "" : text);
    for (std::string word; words >> word;) set(from_environment, word);
    return from_environment;
  }();
  return settings;
}

// Registered by the first finding: a test that forgets to look must not pass.
void exit_with_findings() {
  if (findings().empty()) return;
  std::fprintf(stderr, "emulation: %zu findings\n", findings().size());
  std::fflush(nullptr);
  _exit(kExitCode);
}

}  // namespace

const Settings& settings() {
  return current();
}

void configure(const Settings& settings) {
  finish_all_streams();
  current() = settings;
  reseed(settings.seed);
}

bool emulated() {
  return true;
}

bool checking() {
  return checker_on();
}

void report(const std::string& finding) {
  static const int registered = (findings(), std::atexit(exit_with_findings));
  (void)registered;
  if (findings().size() >= kMostFindings) return;
  std::fprintf(stderr, "emulation: %s\n", finding.c_str());
  findings().push_back(finding);
}

std::vector<std::string> take_findings() {
  finish_all_streams();
  clear_error();
  forget_reported_pairs();
  return std::exchange(findings(), {});
}

}  // namespace emulation
