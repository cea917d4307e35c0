#include "trainer/checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>

#include "tests/state/checkpoint_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "trainer/checkpoint/inspect.h"
#include "trainer/io/box.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;

// What a save on `ranks` ranks throws on each of them; "" where it does not.
std::vector<std::string> failures_of_save(const std::string& dir, std::int64_t step, int ranks) {
  return run_ranks(ranks, [&](Communicator& world) {
    const Holding holding = holding_of(world.rank(), world.size(), Sharding::kRows);
    return error_of([&] { save_checkpoint(world, dir, some_state(step), holding.boxes); });
  });
}

bool has_part(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a checkpoint of any sharding is read bit for bit on any other", "[ranks]") {
  const Scratch scratch;
  const auto [ranks, sharding] = GENERATE(table<int, Sharding>(
      {{1, Sharding::kRows}, {4, Sharding::kGrid}, {4, Sharding::kFlat}, {3, Sharding::kColumns}}));
  const TrainState state = some_state(100);
  const std::string path = save_filled(scratch.path(), state, ranks, sharding);
  CHECK(path == scratch.path("step-00000100"));

  const CheckpointReader reader(path);
  reader.verify();
  CHECK(reader.state().step == state.step);
  CHECK(reader.state().consumed_samples == state.consumed_samples);
  CHECK(reader.state().consumed_tokens == state.consumed_tokens);
  CHECK(reader.state().optimizer_step == state.optimizer_step);
  CHECK(reader.state().passport == state.passport);
  CHECK(reader.tensors().size() == 6);
  CHECK(reader.has("cube"));
  CHECK_FALSE(reader.has("sphere"));

  for (int size : {1, 2, 3}) {
    for (Sharding wanted : {Sharding::kRows, Sharding::kColumns, Sharding::kFlat}) {
      for (int rank = 0; rank < size; ++rank) {
        const Holding holding = holding_of(rank, size, wanted);
        for (const TensorBox& box : holding.boxes) poison(box);
        reader.read(holding.boxes);
        for (const TensorBox& box : holding.boxes) CHECK(difference(box) == "");
      }
    }
  }
}

TEST_CASE("the same state gives the same bytes, also when it replaces a wider checkpoint of the same step",
          "[ranks]") {
  const Scratch scratch;
  const auto first = files_of(save_filled(scratch.path("a"), some_state(7), 2, Sharding::kFlat));
  const auto second = files_of(save_filled(scratch.path("b"), some_state(7), 2, Sharding::kFlat));
  CHECK(first == second);
  CHECK(first.size() == 3);  // two ranks and the manifest: nothing temporary

  save_filled(scratch.path("c"), some_state(7), 4, Sharding::kRows);
  const auto replaced = files_of(save_filled(scratch.path("c"), some_state(7), 2, Sharding::kFlat));
  CHECK(first == replaced);
}

TEST_CASE("a flat range becomes at most three boxes") {
  std::vector<float> values(12);
  for (std::int64_t begin = 0; begin <= 12; ++begin) {
    for (std::int64_t end = begin; end <= 12; ++end) {
      const Tensor flat{values.data() + begin, {end - begin}, DType::kF32};
      const auto boxes = boxes_of_flat_range("w", {9, 8}, {5, 2}, {3, 4}, begin, flat);
      CHECK(boxes.size() <= 3);
      std::int64_t at = begin;
      for (const TensorBox& box : boxes) {
        CHECK(box.local.ptr<float>() == values.data() + at);
        CHECK(box.offset[0] == 5 + at / 4);
        CHECK(box.offset[1] == 2 + at % 4);
        const bool one_row = box.local.shape[0] == 1;
        CHECK((one_row || (box.local.shape[1] == 4 && at % 4 == 0)));
        at += box.local.numel();
      }
      CHECK(at == end);
    }
  }
  CHECK_THROWS_AS(boxes_of_flat_range("w", {8}, {0}, {8}, 7, {values.data(), {2}, DType::kF32}), Error);
}

TEST_CASE("overlapping, missing and disagreeing boxes stop a save, and nothing is committed", "[ranks]") {
  const Scratch scratch;
  struct Case {
    const char* what;
    std::vector<Box> boxes;  // rank r saves boxes[r] of a tensor (4, 4)
  };
  const auto [what, boxes] = GENERATE(
      values<Case>({{"boxes are missing: they cover 12 of 16", {{{0, 0}, {2, 4}}, {{2, 0}, {1, 4}}}},
                    {"boxes [0:3, 0:4] and [2:4, 0:4] overlap", {{{0, 0}, {3, 4}}, {{2, 0}, {2, 4}}}},
                    // An overlap and a hole of the same size: the sum of the volumes is right.
                    {"boxes [0:2, 0:4] and [1:3, 0:4] overlap", {{{0, 0}, {2, 4}}, {{1, 0}, {2, 4}}}}}));
  const auto messages = run_ranks(2, [&, &boxes = boxes](Communicator& world) {
    const Box& mine = boxes[static_cast<std::size_t>(world.rank())];
    Holding holding;
    holding.add("w", {4, 4}, mine.offset, Shape(mine.extent), DType::kF32);
    return error_of([&] { save_checkpoint(world, scratch.path(), some_state(1), holding.boxes); });
  });
  CHECK(has_part(messages[0], "tensor 'w'"));
  CHECK(has_part(messages[0], what));
  CHECK(messages[0] == messages[1]);
  CHECK_FALSE(fs::exists(scratch.path("step-00000001/manifest.pb")));
  CHECK_FALSE(latest_checkpoint(scratch.path()));
}

TEST_CASE("ranks that disagree on a tensor's shape or dtype are told so", "[ranks]") {
  const Scratch scratch;
  const auto messages = run_ranks(2, [&](Communicator& world) {
    Holding holding;
    holding.add("w", {2, 4}, {world.rank(), 0}, {1, 4}, world.rank() == 0 ? DType::kF32 : DType::kBF16);
    return error_of([&] { save_checkpoint(world, scratch.path(), some_state(1), holding.boxes); });
  });
  CHECK(has_part(messages[1], "tensor 'w' is f32 (2, 4) on one rank and bf16 (2, 4) on another"));
}

TEST_CASE("a write that fails on one rank fails on all with one message and keeps the older checkpoint",
          "[ranks]") {
  const Scratch scratch;
  const std::string older = save_filled(scratch.path(), some_state(5), 3, Sharding::kRows);
  const auto before = files_of(older);
  const fs::path blocked = scratch.path("step-00000005/rank-00002.safetensors.tmp");

  SECTION("disk full") {
    once([&] { fs::create_symlink("/dev/full", blocked); });
    const auto messages = failures_of_save(scratch.path(), 5, 3);
    CHECK(has_part(messages[0], "rank 2: "));
    CHECK(has_part(messages[0], "No space left on device"));
    CHECK(std::all_of(messages.begin(), messages.end(), [&](const auto& m) { return m == messages[0]; }));
  }
  SECTION("temporary name taken by a directory") {
    once([&] { fs::create_directories(blocked / "inside"); });
    const auto messages = failures_of_save(scratch.path(), 5, 3);
    CHECK(has_part(messages[0], "rank-00002.safetensors.tmp: cannot open: Is a directory"));
    CHECK(std::all_of(messages.begin(), messages.end(), [&](const auto& m) { return m == messages[0]; }));
    once([&] { fs::remove_all(blocked); });
  }
  CHECK(files_of(older) == before);  // nothing temporary is left either
  CHECK(latest_checkpoint(scratch.path()) == older);
  CheckpointReader(older).verify();
}

TEST_CASE("a directory that cannot be made fails on all ranks", "[ranks]") {
  const Scratch scratch;
  once([&] { write_contents(scratch.path("file"), "not a directory"); });
  const auto messages = failures_of_save(scratch.path("file/checkpoints"), 1, 2);
  CHECK(has_part(messages[0], "file/checkpoints"));
  CHECK(has_part(messages[0], "Not a directory"));
  CHECK(messages[0] == messages[1]);
}

TEST_CASE("the newest committed checkpoint is found, unfinished ones are passed over") {
  const Scratch scratch;
  CHECK_FALSE(latest_checkpoint(scratch.path()));
  CHECK_FALSE(latest_checkpoint(scratch.path("nowhere")));
  const std::string dir = scratch.path("checkpoints");
  save_filled(dir, some_state(9), 1, Sharding::kRows);
  const std::string newest = save_filled(dir, some_state(100), 1, Sharding::kRows);
  const std::string unfinished = save_filled(dir, some_state(200), 1, Sharding::kRows);
  CHECK(latest_checkpoint(dir) == unfinished);
  fs::rename(fs::path(unfinished) / "manifest.pb", fs::path(unfinished) / "manifest.pb.tmp");
  fs::create_directories(dir + "/step-00000300");
  fs::create_directories(dir + "/step-1e9");
  CHECK(latest_checkpoint(dir) == newest);
  CHECK(find_checkpoint(scratch.path()) == newest);  // from the run directory
  CHECK(find_checkpoint(newest) == newest);
  CHECK(has_part(error_of([&] { find_checkpoint(scratch.path("nowhere")); }), "no checkpoint here"));
  ExitCode code{};
  CHECK(has_part(error_of([&] { CheckpointReader reader(unfinished); }, &code), "not a checkpoint"));
  CHECK(code == ExitCode::kData);
}

TEST_CASE("a request that the checkpoint cannot answer names the tensor", "[ranks]") {
  const Scratch scratch;
  const CheckpointReader reader(save_filled(scratch.path(), some_state(1), 2, Sharding::kRows));
  const auto message = [&](const std::string& name, Shape shape, DType dtype) {
    Holding holding;
    holding.add(name, shape, std::vector<std::int64_t>(shape.dims().size(), 0), shape, dtype);
    return error_of([&] { reader.read(holding.boxes); });
  };
  CHECK(has_part(message("sphere", {6}, DType::kF32), "has no tensor 'sphere'"));
  CHECK(has_part(message("layers.0.norm", {9}, DType::kBF16),
                 "'layers.0.norm' is f32 (9), this run needs bf16 (9)"));
  CHECK(has_part(message("layers.0.norm", {10}, DType::kF32), "this run needs f32 (10)"));
  CHECK(message("layers.0.norm", {9}, DType::kF32) == "");
}

TEST_CASE("inspect shows state, passport, files and tensors", "[ranks]") {
  const Scratch scratch;
  const std::string path = save_filled(scratch.path(), some_state(100), 2, Sharding::kRows);
  const std::string text = describe_checkpoint(path);
  for (const char* part : {"finished steps", "config: a: 1 ...", "layout: dp 2", "rank-00001.safetensors",
                           "cube", "(6, 3, 4)", "6 tensors, 372 elements"}) {
    CHECK(has_part(text, part));
  }
  const CheckpointSize size = size_of_checkpoint(path);
  CHECK(size.files == 2);
  CHECK(size.boxes == 12);
}

}  // namespace jevons::test
