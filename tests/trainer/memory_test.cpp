// What a run holds in memory beside what it uses, and what the dry run says of it.
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/step/dry_run.h"

namespace jevons::test {

TEST_CASE("arenas of a dropless run hold at most a tenth more than their peak, and metrics say so",
          "[memory][ranks]") {
  const TempDir dir;
  write_corpus(dir / "corpus");
  const std::vector<std::string> overrides = {"parallel.ep=2", "train.steps=24", "train.micro_batch_size=4",
                                              "train.log_interval=1"};
  REQUIRE(train(2, tiny_yaml(dir / "corpus", dir / "run"), overrides) == ExitCode::kOk);
  std::ifstream file(dir / "run/metrics.jsonl");
  int steps = 0;
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record["kind"] != "step") continue;
    ++steps;
    const auto held = record["arena_held_bytes"].get<double>(),
               peak = record["arena_peak_bytes"].get<double>();
    CHECK(peak > 0);
    CHECK(held >= peak);
    CHECK(held <= 1.1 * peak + 2 * 4096);  // and a page of each arena
  }
  CHECK(steps == 24);
}

TEST_CASE("the dry run of a GPU counts what its libraries take, that of a CPU does not", "[memory]") {
  const auto memory_of = [](const std::string& device, std::vector<std::string> overrides, int world) {
    overrides.insert(overrides.end(),
                     {"device=" + device, "train.precision=bf16"});  // a GPU takes nothing else
    const RunConfig config =
        parse_run_config(tiny_yaml("corpus", "run"), "test.yaml", overrides, {.world = world});
    return dry_run(config, world).memory;
  };
  constexpr std::size_t kMiB = 1 << 20;
  const MemoryReport cpu = memory_of("cpu", {}, 1), gpu = memory_of("cuda", {}, 1);
  CHECK(cpu.work < 8 * kMiB);
  CHECK(gpu.work >= 4 * 32 * kMiB);  // products of the experts, side by side
  CHECK(gpu.work < cpu.work + 4 * 32 * kMiB + kMiB);
  CHECK(gpu.stash == cpu.stash);
  CHECK(gpu.communication == 0);

  // A square of bf16 for each of the two query heads that share a key head; a mask is one more.
  const std::vector<std::string> long_sequences = {"model.seq_len=32768", "train.micro_batch_size=1"};
  const std::size_t squares = std::size_t{2} * 32768 * 32768 * 2;
  const MemoryReport plain = memory_of("cuda", long_sequences, 1);
  CHECK(plain.work >= squares);
  CHECK(plain.work < squares + 512 * kMiB);
  std::vector<std::string> documents = long_sequences;
  documents.push_back("data.document_mask=true");
  CHECK(memory_of("cuda", documents, 1).work - plain.work >= squares / 2);

  // Four groups of two ranks and the world have communicators.
  CHECK(memory_of("cpu", {"parallel.ep=2"}, 2).communication == 0);
  const std::size_t of_one = memory_of("cuda", {"parallel.tp=2"}, 2).communication;
  CHECK(of_one >= 3 * 32 * kMiB);
  CHECK(memory_of("cuda", {"parallel.ep=2"}, 4).communication > of_one);
}

}  // namespace jevons::test
