#include "trainer/run/host_energy.h"

#include "tests/support/catch.h"

namespace jevons {

TEST_CASE("the lowest rank of every host speaks for its energy, once", "[energy]") {
  const std::vector<std::string> hosts = {"a", "b", "a", "c", "b"};
  std::string speakers;
  for (int rank = 0; rank < 5; ++rank) {
    HostEnergy energy(hosts, rank, DeviceChoice::kCpu);
    if (energy.speaks_for_host()) speakers += std::to_string(rank);
    if (!energy.speaks_for_host()) CHECK_FALSE(energy.joules(HostEnergy::Freshness::kNow));
  }
  CHECK(speakers == "013");
}

}  // namespace jevons
