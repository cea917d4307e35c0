// NVML without its header: the few functions that are used, by their documented C signatures.
// Source: NVIDIA, NVML API Reference Guide.
#include <dlfcn.h>
#include <fmt/format.h>

#include <vector>

#include "trainer/cost/energy.h"

namespace jevons {
namespace {

constexpr int kSuccess = 0;  // NVML_SUCCESS
using Device = void*;        // nvmlDevice_t

// The library, loaded and initialised for as long as this lives.
class Library {
 public:
  // Null when it is absent, lacks a function or finds no driver.
  static std::unique_ptr<Library> open(const std::string& name) {
    std::unique_ptr<Library> library(new Library);
    library->handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library->handle_ == nullptr) return nullptr;
    const bool whole = library->find(library->init, "nvmlInit_v2") &&
                       library->find(library->shutdown, "nvmlShutdown") &&
                       library->find(library->device_count, "nvmlDeviceGetCount_v2") &&
                       library->find(library->device_handle, "nvmlDeviceGetHandleByIndex_v2") &&
                       library->find(library->total_energy, "nvmlDeviceGetTotalEnergyConsumption");
    if (!whole || library->init() != kSuccess) return nullptr;
    library->initialised_ = true;
    return library;
  }
  ~Library() {
    if (initialised_) shutdown();
    if (handle_ != nullptr) dlclose(handle_);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*device_count)(unsigned* count) = nullptr;
  int (*device_handle)(unsigned index, Device* device) = nullptr;
  int (*total_energy)(Device device, unsigned long long* millijoules) = nullptr;

 private:
  Library() = default;

  template <class Function>
  bool find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(handle_, name));
    return function != nullptr;
  }

  void* handle_ = nullptr;
  bool initialised_ = false;
};

class Nvml : public EnergyMeter {
 public:
  Nvml(std::unique_ptr<Library> library, std::vector<Device> devices)
      : library_(std::move(library)), devices_(std::move(devices)) {}

  std::optional<double> joules() override {
    const std::optional<double> now = total();
    if (!now) return std::nullopt;
    return *now - start_;
  }
  std::string describe() const override {
    return fmt::format("NVML: {} GPU{}", devices_.size(), devices_.size() == 1 ? "" : "s");
  }
  // False if a GPU has no counter.
  bool start() {
    const std::optional<double> now = total();
    start_ = now.value_or(0);
    return now.has_value();
  }

 private:
  // Joules since the driver was loaded, of all GPUs.
  std::optional<double> total() const {
    double sum = 0;
    for (const Device device : devices_) {
      unsigned long long millijoules = 0;
      if (library_->total_energy(device, &millijoules) != kSuccess) return std::nullopt;
      sum += static_cast<double>(millijoules) * 1e-3;
    }
    return sum;
  }

  std::unique_ptr<Library> library_;
  std::vector<Device> devices_;
  double start_ = 0;
};

}  // namespace

std::unique_ptr<EnergyMeter> open_nvml(const std::string& name) {
  std::unique_ptr<Library> library = Library::open(name);
  unsigned count = 0;
  if (!library || library->device_count(&count) != kSuccess || count == 0) return nullptr;
  std::vector<Device> devices(count);
  for (unsigned i = 0; i < count; ++i) {
    if (library->device_handle(i, &devices[i]) != kSuccess) return nullptr;
  }
  auto meter = std::make_unique<Nvml>(std::move(library), std::move(devices));
  return meter->start() ? std::move(meter) : nullptr;
}

}  // namespace jevons
