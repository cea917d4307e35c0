#include "trainer/cost/energy.h"

#include <cstdlib>
#include <filesystem>

#include "tests/state/scratch.h"
#include "tests/support/catch.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;

// A tree as /sys/class/powercap shows it.
class FakePowercap {
 public:
  FakePowercap() {
    // A counter-less directory for the control type itself, as the kernel has it.
    fs::create_directories(scratch_.path("intel-rapl"));
  }
  void zone(const std::string& zone, const std::string& name, long microjoules) {
    fs::create_directories(scratch_.path(zone));
    write_contents(scratch_.path(zone + "/name"), name + "\n");
    write_contents(scratch_.path(zone + "/max_energy_range_uj"), "10000000\n");
    set(zone, microjoules);
  }
  void set(const std::string& zone, long microjoules) {
    write_contents(scratch_.path(zone + "/energy_uj"), std::to_string(microjoules) + "\n");
  }
  void remove_counter(const std::string& zone) { fs::remove(scratch_.path(zone + "/energy_uj")); }
  std::string path() const { return scratch_.path(); }

 private:
  Scratch scratch_;
};

}  // namespace

TEST_CASE("RAPL: packages and memory, each once") {
  FakePowercap tree;
  tree.zone("intel-rapl:0", "package-0", 1'000'000);
  tree.zone("intel-rapl:0:0", "core", 500'000);  // in the package
  tree.zone("intel-rapl:0:1", "dram", 100'000);
  tree.zone("intel-rapl:1", "package-1", 2'000'000);
  tree.zone("intel-rapl:2", "psys", 9'000'000);            // holds everything
  tree.zone("intel-rapl-mmio:0", "package-0", 1'000'000);  // the first package again
  const auto meter = open_rapl(tree.path());
  REQUIRE(meter);
  CHECK(meter->describe() == "RAPL: package-0, dram, package-1");
  CHECK(meter->joules() == 0.0);
  tree.set("intel-rapl:0", 4'000'000);
  tree.set("intel-rapl:0:0", 3'000'000);
  tree.set("intel-rapl:0:1", 600'000);
  CHECK(meter->joules() == Approx(3.5));
  tree.set("intel-rapl:1", 2'250'000);
  CHECK(meter->joules() == Approx(3.75));
}

TEST_CASE("RAPL: counters wrap around, more than once") {
  FakePowercap tree;
  tree.zone("intel-rapl:0", "package-0", 9'000'000);
  const auto meter = open_rapl(tree.path());
  REQUIRE(meter);
  tree.set("intel-rapl:0", 1'500'000);  // 1 J to the end of the range, 1.5 J after it
  CHECK(meter->joules() == Approx(2.5));
  tree.set("intel-rapl:0", 9'500'000);
  tree.set("intel-rapl:0", 9'500'000);
  CHECK(meter->joules() == Approx(10.5));
  tree.set("intel-rapl:0", 0);
  CHECK(meter->joules() == Approx(11));
}

TEST_CASE("RAPL: what cannot be read is unknown, not 0") {
  CHECK_FALSE(open_rapl("/nowhere"));
  FakePowercap tree;
  CHECK_FALSE(open_rapl(tree.path()));
  tree.zone("intel-rapl:0", "package-0", 1);
  tree.zone("intel-rapl:1", "package-1", 1);
  const auto meter = open_rapl(tree.path());
  REQUIRE(meter);
  tree.remove_counter("intel-rapl:1");
  CHECK_FALSE(meter->joules());
  CHECK_FALSE(open_rapl(tree.path()));  // one package of two is not the energy of the host
}

TEST_CASE("NVML: energy of all GPUs since the meter was opened") {
  const auto meter = open_nvml(JEVONS_FAKE_NVML);
  REQUIRE(meter);
  CHECK(meter->describe() == "NVML: 2 GPUs");
  CHECK(meter->joules() == Approx(3000));
  CHECK(meter->joules() == Approx(6000));
}

TEST_CASE("NVML: without library, function or counter the energy is unknown") {
  CHECK_FALSE(open_nvml("libabsent-nvml.so.1"));
  CHECK_FALSE(open_nvml("libc.so.6"));  // loads, but has none of the functions
  setenv("FAKE_NVML_NO_COUNTER", "1", 1);
  CHECK_FALSE(open_nvml(JEVONS_FAKE_NVML));
  unsetenv("FAKE_NVML_NO_COUNTER");
  CHECK(open_nvml(JEVONS_FAKE_NVML));
}

}  // namespace jevons::test
