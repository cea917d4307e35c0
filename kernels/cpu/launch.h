// CPU loops of the kernels: fixed blocks of work spread over OpenMP threads. Block borders depend on the
// problem only, never on the number of threads, so a reduction per block gives the same bits on any machine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>

#include "kernels/core/context.h"

namespace jevons {

// Calls f(begin, end) once for every block [i * grain, min((i + 1) * grain, n)). Blocks run in any order, at
// the same time on up to `threads` threads; serially, in order, in a build without OpenMP. The first
// exception of f is rethrown.
template <class F>
void parallel_for(int threads, std::int64_t n, std::int64_t grain, F&& f) {
  const std::int64_t blocks = n <= 0 ? 0 : (n + grain - 1) / grain;
  const auto run = [&](std::int64_t block) { f(block * grain, std::min((block + 1) * grain, n)); };
#ifdef _OPENMP
  if (threads > 1 && blocks > 1) {
    std::exception_ptr error;
    const int team = static_cast<int>(std::min<std::int64_t>(threads, blocks));
#pragma omp parallel for schedule(dynamic) num_threads(team)
    for (std::int64_t block = 0; block < blocks; ++block) {
      try {
        run(block);
      } catch (...) {
#pragma omp critical(jevons_parallel_for)
        if (!error) error = std::current_exception();
      }
    }
    if (error) std::rethrow_exception(error);
    return;
  }
#else
  (void)threads;
#endif
  for (std::int64_t block = 0; block < blocks; ++block) run(block);
}

template <class F>
void parallel_for(const Context& ctx, std::int64_t n, std::int64_t grain, F&& f) {
  parallel_for(ctx.threads, n, grain, f);
}

}  // namespace jevons
