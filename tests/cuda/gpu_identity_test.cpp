// Which ranks NCCL would not let work together, by what each says of its GPU.
#include "parallel/nccl/gpu_identity.h"

#include <cstring>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"

namespace jevons::test {
namespace {

using nccl::GpuIdentity;

GpuIdentity gpu(std::string_view host, std::string_view bus, std::string_view uuid) {
  GpuIdentity identity;
  host.copy(identity.host.data(), identity.host.size() - 1);
  bus.copy(identity.bus.data(), identity.bus.size() - 1);
  std::memcpy(identity.uuid.data(), uuid.data(), uuid.size());
  return identity;
}

std::pair<int, int> found(const std::vector<GpuIdentity>& by_rank) {
  return nccl::ranks_of_one_gpu(by_rank);
}

constexpr std::pair kNone(-1, -1);

}  // namespace

TEST_CASE("GPUs at one address of two hosts are two") {
  CHECK(found({gpu("boot 1", "0000:1b:00.0", "a"), gpu("boot 2", "0000:1b:00.0", "b")}) == kNone);
  CHECK(found({gpu("boot 1", "0000:1b:00.0", "a"), gpu("boot 1", "0000:1c:00.0", "b")}) == kNone);
  CHECK(found({gpu("boot 1", "0000:1b:00.0", "a")}) == kNone);
}

TEST_CASE("a GPU is found again whatever its host says, and the first pair is named") {
  CHECK(found({gpu("boot 1", "0000:1b:00.0", "a"), gpu("boot 2", "0000:1c:00.0", "b"),
               gpu("boot 3", "0000:1d:00.0", "a"), gpu("boot 3", "0000:1d:00.0", "a")}) == std::pair(0, 2));
}

TEST_CASE("parts of a GPU are one to NCCL") {
  CHECK(found({gpu("boot 1", "0000:1b:00.0", "part a"), gpu("boot 1", "0000:1b:00.0", "part b")}) ==
        std::pair(0, 1));
}

TEST_CASE("ranks that allocate from one memory are counted; parts of a GPU have each their own") {
  const std::vector<GpuIdentity> by_rank = {
      gpu("boot 1", "0000:1b:00.0", "part a"), gpu("boot 1", "0000:1b:00.0", "part b"),
      gpu("boot 2", "0000:1c:00.0", "part a"), gpu("boot 1", "0000:1d:00.0", ""),
      gpu("boot 1", "0000:1d:00.0", ""),       gpu("boot 2", "0000:1d:00.0", "")};
  std::vector<int> counts;
  for (int rank = 0; rank < 6; ++rank) counts.push_back(nccl::ranks_in_memory_of(by_rank, rank));
  CHECK(counts == std::vector{2, 1, 2, 2, 2, 1});
}

TEST_CASE("GPUs without a UUID are told apart by their address") {
  CHECK(found({gpu("boot 1", "0000:1b:00.0", ""), gpu("boot 1", "0000:1c:00.0", "")}) == kNone);
  CHECK(found({gpu("boot 1", "0000:1b:00.0", ""), gpu("boot 1", "0000:1b:00.0", "")}) == std::pair(0, 1));
}

TEST_CASE("the selected GPU has a host, an address and a UUID", "[device]") {
  const GpuIdentity identity = nccl::identity_of_gpu();
  CHECK(std::string_view(identity.host.data()).size() == 36);  // of the kernel's boot id
  CHECK(std::string_view(identity.bus.data()) != "");
  CHECK(identity.uuid != decltype(identity.uuid){});
}

}  // namespace jevons::test
