#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

#include "trainer/cost/energy.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

template <class T>
std::optional<T> read_value(const fs::path& path) {
  std::ifstream file(path);
  T value{};
  if (file >> value) return value;
  return std::nullopt;
}

// A counter in microjoules that starts again at 0 after `range`.
class Zone {
 public:
  // Nothing if the zone cannot be read.
  static std::optional<Zone> open(const fs::path& directory, const std::string& name) {
    Zone zone;
    zone.counter_ = directory / "energy_uj";
    zone.name_ = name;
    const auto range = read_value<std::uint64_t>(directory / "max_energy_range_uj");
    const auto now = read_value<std::uint64_t>(zone.counter_);
    if (!range || !now) return std::nullopt;
    zone.range_ = *range, zone.last_ = *now;
    return zone;
  }

  // Adds what was taken since the last call; false if the counter cannot be read.
  bool update() {
    const auto now = read_value<std::uint64_t>(counter_);
    if (!now) return false;
    taken_ += *now >= last_ ? *now - last_ : range_ - last_ + *now;
    last_ = *now;
    return true;
  }
  double joules() const { return static_cast<double>(taken_) * 1e-6; }
  const std::string& name() const { return name_; }

 private:
  fs::path counter_;
  std::string name_;
  std::uint64_t range_ = 0, last_ = 0, taken_ = 0;
};

class Rapl : public EnergyMeter {
 public:
  explicit Rapl(std::vector<Zone> zones) : zones_(std::move(zones)) {}
  std::optional<double> joules() override {
    double sum = 0;
    for (Zone& zone : zones_) {
      if (!zone.update()) return std::nullopt;
      sum += zone.joules();
    }
    return sum;
  }
  std::string describe() const override {
    std::string names;
    for (const Zone& zone : zones_) names += (names.empty() ? "" : ", ") + zone.name();
    return "RAPL: " + names;
  }

 private:
  std::vector<Zone> zones_;
};

// Packages hold core and uncore; memory is a zone below its package but not part of its count; psys holds
// everything and would count it twice.
bool is_counted(const std::string& name) {
  return name.starts_with("package") || name == "dram";
}

}  // namespace

std::unique_ptr<EnergyMeter> open_rapl(const std::string& powercap) {
  std::error_code error;
  std::vector<fs::path> directories;
  for (const auto& entry : fs::directory_iterator(powercap, error)) {
    // The same packages appear a second time as intel-rapl-mmio on some laptops.
    if (entry.path().filename().string().starts_with("intel-rapl:")) directories.push_back(entry.path());
  }
  std::sort(directories.begin(), directories.end());
  std::vector<Zone> zones;
  for (const fs::path& directory : directories) {
    const auto name = read_value<std::string>(directory / "name");
    if (!name || !is_counted(*name)) continue;
    auto zone = Zone::open(directory, *name);
    if (!zone) return nullptr;  // a part of the energy would pass for all of it
    zones.push_back(std::move(*zone));
  }
  if (zones.empty()) return nullptr;
  return std::make_unique<Rapl>(std::move(zones));
}

}  // namespace jevons
