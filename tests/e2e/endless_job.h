// A job that runs until something happens to it.
#pragma once

#include <string>
#include <utility>

#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"
#include "tests/trainer/training_run.h"

namespace jevons::test {

// Whether a second later no process of this name has `argument` on its command line.
inline bool all_gone(const std::string& program, const std::string& argument) {
  return shell(fmt::format("sleep 1; ps -C {} -o args= | grep {}", program, argument)).code == 1;
}

// Workers that would never end.
struct EndlessJob {
  // `options`: overrides of the configuration.
  EndlessJob(int workers, std::string options) : workers(workers), options(std::move(options)) {
    write_corpus(dir / "corpus");
    write_bytes(dir / "run.yaml", tiny_yaml(dir / "corpus", dir / "run"));
  }

  // Starts them, does `then`, shell code that knows kill_rank SIGNAL REGEX (of ranks), when a step is done,
  // and waits for the end.
  Ran start_and(const std::string& then) const {
    const std::string run =
        job_of(workers, fmt::format("{} train {} train.steps=100000000 train.global_batch_size={} {}",
                                    JEVONS_PROGRAM, dir / "run.yaml", workers, options));
    const std::string kill_rank = fmt::format(
        "kill_rank() {{ for p in $(pgrep -f \"train {}\"); do "
        "grep -qzx OMPI_COMM_WORLD_RANK=$2 /proc/$p/environ && kill -$1 $p; done; }}",
        dir / "run.yaml");
    return shell(fmt::format("{}; {} & until grep -qs step {}; do sleep 0.1; done; {}; wait $!", kill_rank,
                             run, dir / "run/metrics.jsonl", then),
                 100);
  }

  int workers;
  std::string options;
  TempDir dir;
};

}  // namespace jevons::test
