// The machine: cores, CPU features, math, memory, GPU. Read from /proc and /sys; what is not there is said to
// be unknown.
#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "kernels/core/device.h"
#include "kernels/gemm.h"
#include "parallel/nccl/device_world.h"
#include "trainer/commands/doctor_checks.h"
#include "trainer/cost/energy.h"
#include "trainer/io/format.h"
#include "trainer/run/host.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The value behind "key ... :" in a file of such lines; empty if there is none.
std::string field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const std::size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

// "16384 kB" of /proc/meminfo.
double memory_bytes(const std::string& key) {
  const std::string value = field("/proc/meminfo", key);
  return value.empty() ? 0 : std::stod(value) * 1024;
}

// Entries of `directory` whose names are `prefix` and a number.
int count_numbered(const std::string& directory, const std::string& prefix) {
  std::error_code error;
  int count = 0;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    const bool numbered = name.size() > prefix.size() && name.starts_with(prefix) &&
                          name.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
    count += numbered ? 1 : 0;
  }
  return count;
}

// Cores' worth of time that the control group grants; 0 = no limit.
double cpu_quota() {
  std::istringstream text(first_line("/sys/fs/cgroup/cpu.max"));
  std::string quota;
  double period = 0;
  if (!(text >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::stod(quota) / period;
}

}  // namespace

Check check_cores() {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const int nodes = std::max(1, count_numbered("/sys/devices/system/node", "node"));
  const std::string model = field("/proc/cpuinfo", "model name");
  Check check{"CPU", Health::kOk,
              fmt::format("{}: {} cores, {} NUMA node{}", model.empty() ? "unknown model" : model, cores,
                          nodes, nodes == 1 ? "" : "s"),
              ""};
  const double quota = cpu_quota();
  if (quota > 0 && quota < usable_cores()) {
    check.health = Health::kWarn;
    check.finding += fmt::format("; limited to {:.1f} cores' worth of time", quota);
    check.advice = fmt::format("set threads so that all workers together use at most {} threads",
                               std::max(1, static_cast<int>(quota)));
  }
  return check;
}

Check check_cpu_features() {
  std::istringstream flags(field("/proc/cpuinfo", "flags"));
  std::set<std::string> present;
  for (std::string flag; flags >> flag;) present.insert(flag);
  Check check{"CPU features", Health::kOk, "", ""};
  for (const char* feature : {"avx2", "fma", "avx512f", "avx512bw", "avx512_bf16"}) {
    check.finding += fmt::format("{}{} {}", check.finding.empty() ? "" : ", ", feature,
                                 present.contains(feature) ? "yes" : "no");
  }
  if (!present.contains("avx512f")) {
    check.health = Health::kWarn;
    check.advice = "without AVX-512 matrix products come from OpenBLAS and are not row-invariant";
  }
  return check;
}

std::vector<Check> check_math() {
  std::vector<Check> checks;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const bool invariant = gemm_backend(dtype).row_invariant;
    Check check{
        fmt::format("matrix products {}", name_of(dtype)), Health::kOk,
        fmt::format("{}, {}", gemm_backend(dtype).name, invariant ? "row-invariant" : "not row-invariant"),
        ""};
    if (!invariant) {
      check.health = Health::kWarn;
      check.advice = "results of other layouts agree to rounding only, not bit for bit";
    }
    checks.push_back(check);
  }
  return checks;
}

Check check_memory() {
  const double total = memory_bytes("MemTotal"), available = memory_bytes("MemAvailable");
  Check check{"memory", Health::kOk,
              fmt::format("{} of {} available", format_bytes(available), format_bytes(total)), ""};
  const std::string limit = first_line("/sys/fs/cgroup/memory.max");
  if (!limit.empty() && limit != "max")
    check.finding += fmt::format("; limited to {}", format_bytes(std::stod(limit)));
  if (available < 1e9) {
    check.health = Health::kWarn;
    check.advice = "less than 1 GB is left; jevons plan tells what a run needs";
  }
  return check;
}

Check check_huge_pages() {
  const std::string modes = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  const std::size_t open = modes.find('['), close = modes.find(']');
  const bool known = open != std::string::npos && close != std::string::npos;
  return {"huge pages", Health::kOk,
          known ? "transparent: " + modes.substr(open + 1, close - open - 1) : "unknown", ""};
}

Check check_energy() {
  const auto cpu = open_rapl(), gpu = open_nvml();
  return {"energy counters", Health::kOk,
          fmt::format("CPU: {}; GPU: {}", cpu ? cpu->describe() : "none that can be read",
                      gpu ? gpu->describe() : "none"),
          ""};
}

std::vector<Check> check_gpus() {
  const device::Availability gpus = device::availability();
  if (gpus.devices > 0) {
    const device::Facts facts = device::facts();
    std::string libraries = "NCCL " + nccl::version();
    for (const auto& [name, version] : facts.versions) libraries += fmt::format(", {} {}", name, version);
    std::vector<Check> checks = {{"GPU libraries", Health::kOk, libraries, ""}};
    for (int i = 0; i < gpus.devices; ++i) {
      const std::string obstacle = device::obstacle(i);
      checks.push_back({"GPU", obstacle.empty() ? Health::kOk : Health::kBad,
                        facts.gpus[static_cast<std::size_t>(i)], obstacle});
    }
    if (!facts.links.empty()) checks.push_back({"GPU links", Health::kOk, facts.links, ""});
    return checks;
  }
  const int devices = count_numbered("/dev", "nvidia");
  if (devices == 0)
    return {{"GPU", Health::kOk, fmt::format("none ({}): training uses the CPU", gpus.reason), ""}};
  std::error_code error;
  std::string model;
  for (const auto& entry : fs::directory_iterator("/proc/driver/nvidia/gpus", error)) {
    model = " (" + field((entry.path() / "information").string(), "Model") + ")";
  }
  return {{"GPU", Health::kWarn,
           fmt::format("{} NVIDIA device{}{}, not usable", devices, devices == 1 ? "" : "s", model),
           gpus.reason}};
}

}  // namespace jevons
