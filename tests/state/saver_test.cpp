// Saving beside training: what is saved is what was there at the beginning, and nothing counts before the
// commit.
#include "trainer/checkpoint/saver.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/state/checkpoint_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;

void fill_all(const Holding& holding) {
  for (const TensorBox& box : holding.boxes) fill(box);
}

void poison_all(const Holding& holding) {
  for (const TensorBox& box : holding.boxes) poison(box);
}

// Every box of a whole read is as fill() made it.
bool is_filled(const std::string& path) {
  const Holding holding = holding_of(0, 1, Sharding::kRows);
  CheckpointReader(path).read(holding.boxes);
  for (const TensorBox& box : holding.boxes) {
    if (!difference(box).empty()) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("saver: originals may change while their copies are written, and buffers are used again",
          "[ranks]") {
  const Scratch scratch;
  run_ranks(3, [&](Communicator& world) {
    const Holding holding = holding_of(world.rank(), 3, Sharding::kFlat);
    CheckpointSaver saver(world, scratch.path());
    ENSURE(!saver.under_way(), "nothing is under way");
    for (const std::int64_t step : {1, 2, 3}) {
      fill_all(holding);
      saver.begin(some_state(step), holding.boxes, Originals::kCopied);
      poison_all(holding);
      ENSURE(saver.under_way(), "a save is under way");
      const SavedCheckpoint saved = saver.commit();
      ENSURE(!saver.under_way(), "nothing is under way");
      ENSURE(saved.step == step, "step {}", saved.step);
      ENSURE(saved.bytes > 3000, "{} bytes",
             saved.bytes);  // of all ranks: 372 elements of 2 to 8 bytes and three headers
      ENSURE(saved.write_seconds >= saved.disk_seconds, "the disk is a part");
      ENSURE(saved.disk_seconds > 0, "the disk takes time");
      if (world.rank() == 0) ENSURE(is_filled(saved.path), "{}", saved.path);
      world.barrier();
    }
  });
  // The same bytes as a save that training waits for.
  const std::string waited = save_filled(scratch.path("waited"), some_state(3), 3, Sharding::kFlat);
  CHECK(files_of(waited) == files_of(scratch.path("step-00000003")));
}

TEST_CASE("saver: before the commit there is no checkpoint, and a save that is dropped leaves nothing",
          "[ranks]") {
  const Scratch scratch;
  const std::string older = save_filled(scratch.path(), some_state(4), 2, Sharding::kRows);
  run_ranks(2, [&](Communicator& world) {
    const Holding holding = holding_of(world.rank(), 2, Sharding::kRows);
    CheckpointSaver saver(world, scratch.path());
    saver.begin(some_state(5), holding.boxes, Originals::kCopied);
    const std::string second =
        error_of([&] { saver.begin(some_state(6), holding.boxes, Originals::kCopied); });
    ENSURE(!second.empty(), "two saves at a time");
    while (saver.is_writing()) ::usleep(1000);
    ENSURE(saver.under_way(), "a save is under way");
    world.barrier();
    ENSURE(latest_checkpoint(scratch.path()) == older, "committed too early");
    world.barrier();
  });
  CHECK(files_of(scratch.path("step-00000005")).empty());
}

TEST_CASE(
    "saver: a directory that vanishes under a save is an error on all ranks, and the next save makes it",
    "[ranks]") {
  const Scratch scratch;
  const auto messages = run_ranks(2, [&](Communicator& world) {
    const Holding holding = holding_of(world.rank(), 2, Sharding::kRows);
    CheckpointSaver saver(world, scratch.path("checkpoints"));
    saver.begin(some_state(1), holding.boxes, Originals::kCopied);
    while (saver.is_writing()) ::usleep(1000);
    world.barrier();
    if (world.rank() == 0) fs::remove_all(scratch.path("checkpoints"));
    world.barrier();
    const std::string message = error_of([&] { saver.commit(); });
    saver.begin(some_state(2), holding.boxes, Originals::kCopied);
    ENSURE(saver.commit().step == 2, "the next save");
    return message;
  });
  CHECK(messages[0].find("step-00000001") != std::string::npos);
  CHECK(messages[0].find("No such file or directory") != std::string::npos);
  CHECK(messages[0] == messages[1]);
}

TEST_CASE("saver: a thread that cannot write is heard of at the commit, by all ranks alike", "[ranks]") {
  const Scratch scratch;
  // A pipe holds up the thread of rank 1 until somebody reads, and cannot be flushed to a disk.
  const std::string pipe = scratch.path("step-00000007/rank-00001.safetensors.tmp");
  once([&] {
    fs::create_directories(scratch.path("step-00000007"));
    ENSURE(::mkfifo(pipe.c_str(), 0600) == 0, "no pipe");
  });
  const auto messages = run_ranks(2, [&](Communicator& world) {
    const Holding holding = holding_of(world.rank(), 2, Sharding::kRows);
    CheckpointSaver saver(world, scratch.path());
    saver.begin(some_state(7), holding.boxes, Originals::kCopied);
    world.barrier();
    int reader = -1;
    if (world.rank() == 1) {
      ENSURE(saver.is_writing(), "the thread waits for a reader");
      reader = ::open(pipe.c_str(), O_RDONLY);
    }
    const std::string message = error_of([&] { saver.commit(); });
    ENSURE(!saver.under_way(), "nothing is under way");
    if (reader >= 0) ::close(reader);
    // The next one is not disturbed.
    saver.begin(some_state(8), holding.boxes, Originals::kCopied);
    ENSURE(saver.commit().step == 8, "the next save");
    return message;
  });
  CHECK(messages[0].find("rank 1: ") == 0);
  CHECK(messages[0].find("rank-00001.safetensors.tmp: cannot flush to disk") != std::string::npos);
  CHECK(messages[0] == messages[1]);
  CHECK(files_of(scratch.path("step-00000007")).empty());
  CHECK(latest_checkpoint(scratch.path()) == scratch.path("step-00000008"));
}

}  // namespace jevons::test
