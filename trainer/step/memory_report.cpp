#include "trainer/step/memory_report.h"

#include <array>
#include <vector>

#include "parallel/host_exchange.h"
#include "trainer/io/format.h"

namespace jevons {

std::string MemoryReport::to_string() const {
  const auto row = [](const char* what, std::size_t bytes) {
    return std::vector<std::string>{what, format_bytes(static_cast<double>(bytes))};
  };
  return format_table({row("weights and gradients", weights_and_grads), row("optimizer", optimizer),
                       row("saved activations", stash), row("temporaries", work),
                       row("buffers of collectives", communication), row("sum", total())});
}

ArenaBytes most_of_ranks(ArenaBytes mine, Communicator& world) {
  std::array<std::int64_t, 2> most = {mine.peak, mine.held};
  all_reduce(world, std::span(most), ReduceOp::kMax);
  return {most[0], most[1]};
}

}  // namespace jevons
