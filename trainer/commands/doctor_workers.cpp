// How the workers were started: MPI, and the cores each may use.
#include <fmt/core.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "parallel/host_exchange.h"
#include "parallel/mpi/mpi_session.h"
#include "trainer/commands/doctor_checks.h"
#include "trainer/run/host.h"

namespace jevons {
namespace {

// What a worker tells the others: a hash of its host's name, then its cores as a bit mask.
constexpr int kMaskWords = CPU_SETSIZE / 64;
constexpr int kWords = 1 + kMaskWords;
using Words = std::vector<std::int64_t>;

Words own_words() {
  Words words(kWords, 0);
  words[0] = static_cast<std::int64_t>(std::hash<std::string>{}(mpi_facts().host));
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return words;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    const auto bit = static_cast<std::uint64_t>(CPU_ISSET(core, &set) ? 1 : 0) << (core % 64);
    auto& word = words[static_cast<std::size_t>(1 + core / 64)];
    word = static_cast<std::int64_t>(static_cast<std::uint64_t>(word) | bit);
  }
  return words;
}

int count_cores(std::span<const std::int64_t> mask) {
  int cores = 0;
  for (const std::int64_t word : mask) cores += std::popcount(static_cast<std::uint64_t>(word));
  return cores;
}

// The first line that a shell command prints; empty if there is none.
std::string first_line_of(const std::string& command) {
  std::string line;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return line;
  for (int c = std::fgetc(pipe); c != EOF && c != '\n'; c = std::fgetc(pipe)) line += static_cast<char>(c);
  pclose(pipe);
  return line;
}

// "4.1.4" of "mpirun (Open MPI) 4.1.4" or of "Open MPI v4.1.4"; empty for another MPI.
std::string open_mpi_release(const std::string& text) {
  const std::size_t digit = text.find_first_of("0123456789");
  return text.find("Open MPI") == std::string::npos || digit == std::string::npos ? "" : text.substr(digit);
}

bool is_set(const char* variable) {
  return std::getenv(variable) != nullptr;
}

std::string plural(int n, const char* noun) {
  return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s");
}

}  // namespace

Check check_mpi(Communicator& world) {
  const MpiFacts facts = mpi_facts();
  const std::vector<std::string> hosts = all_gather_texts(world, facts.host);
  Check check{"MPI", Health::kOk, facts.library, ""};
  if (facts.thread_level.empty()) {
    check.finding += "; not started by mpirun: 1 worker";
  } else {
    check.finding += fmt::format("; {} on {}; threads: {}", plural(world.size(), "worker"), list_hosts(hosts),
                                 facts.thread_level);
  }
  if (const std::string alone = alone_by_mistake(world.size()); !alone.empty()) {
    check.health = Health::kWarn, check.advice = alone;
  }
  return check;
}

Check check_mpirun() {
  Check check{"mpirun", Health::kOk, first_line_of("mpirun --version 2>/dev/null"), ""};
  if (started_by_mpi_launcher()) return check;
  const std::string release = open_mpi_release(check.finding);
  const std::string library = mpi_facts().library;
  if (check.finding.empty()) {
    check.health = Health::kWarn;
    check.finding = "not found: one worker only, or srun";
    check.advice = "install Open MPI's launcher, Debian's package openmpi-bin";
  } else if (release != open_mpi_release(library)) {
    check.health = Health::kWarn;
    check.finding +=
        fmt::format("; this program runs with {}: each worker would think that it is alone", library);
    check.advice = "start with the mpirun of the MPI that the program was built with";
  } else if (!release.empty() && geteuid() == 0 &&
             !(is_set("OMPI_ALLOW_RUN_AS_ROOT") && is_set("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"))) {
    check.health = Health::kWarn;
    check.finding += "; refuses to start as root";
    check.advice =
        "start with scripts/launch (installed: jevons-launch), or in this shell: export "
        "OMPI_ALLOW_RUN_AS_ROOT=1 "
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1";
  } else if (!is_set(release.starts_with("4.") ? "OMPI_MCA_rmaps_base_oversubscribe"
                                               : "PRTE_MCA_rmaps_default_mapping_policy")) {
    check.finding += "; wants --oversubscribe, or scripts/launch, for more workers than cores";
  }
  return check;
}

Check check_binding(Communicator& world) {
  Words own = own_words();
  const Words all = all_gather(world, std::span(own));
  // Over the workers of this host: how many, and which cores they may use between them.
  int local = 0;
  Words together(kMaskWords, 0);
  for (int rank = 0; rank < world.size(); ++rank) {
    const std::span<const std::int64_t> words(all.data() + rank * kWords, kWords);
    if (words[0] != own[0]) continue;
    ++local;
    for (int i = 0; i < kMaskWords; ++i)
      together[static_cast<std::size_t>(i)] |= words[static_cast<std::size_t>(i + 1)];
  }
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const int usable = count_cores(std::span(own).subspan(1)), shared = count_cores(together);
  Check check{"cores of a worker", Health::kOk,
              fmt::format("{} on this host, bound to {} of {}", plural(local, "worker"), usable,
                          plural(cores, "core")),
              ""};
  if (shared < std::min(local, cores)) {
    check.health = Health::kBad;
    check.finding += fmt::format("; all of them share {}", plural(shared, "core"));
    check.advice = "start with mpirun --bind-to none (or --bind-to core with enough slots)";
  } else if (local > cores) {
    check.health = Health::kWarn;
    check.finding += "; more workers than cores";
    check.advice = "fewer workers train faster; these take turns";
  } else if (usable < cores / local) {
    check.health = Health::kWarn;
    check.finding += fmt::format("; {} would be its share", cores / local);
    check.advice = "start with mpirun --bind-to none, or --map-by slot:PE=" + std::to_string(cores / local);
  }
  return check;
}

}  // namespace jevons
