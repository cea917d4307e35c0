// The program on emulated GPUs, one per worker, under mpirun: against the CPU, from one to the other, and
// what it says when it cannot.
#include <regex>

#include "tests/e2e/endless_job.h"
#include "tests/e2e/run_result.h"

namespace jevons::test {
namespace {

using Catch::Matchers::ContainsSubstring;

// Runs in a directory of their own, on one corpus.
class Runs {
 public:
  Runs() { write_corpus(dir_ / "corpus"); }

  // A run of bf16 without the selection bias: one of its steps flips when a load crosses the mean by a token.
  Ran train(int workers, const std::string& name, const std::string& overrides,
            const std::string& emulation = "streams=lazy", const std::string& environment = "") {
    write_bytes(dir_ / (name + ".yaml"), tiny_yaml(dir_ / "corpus", dir_ / name));
    const std::string options =
        "train.precision=bf16 train.micro_batch_size=2 train.eval_samples=2 "
        "model.moe.router.selection_bias=false " +
        overrides;
    return shell(fmt::format(
        "{} JEVONS_EMULATION=\"{}\" {}", environment, emulation,
        job_of(workers, fmt::format("{} train {} {}", JEVONS_PROGRAM, dir_ / (name + ".yaml"), options))));
  }
  Result result(const std::string& name) const { return result_of(dir_ / name); }
  std::string ledger(const std::string& name) const { return read_bytes(dir_ / name + "/ledger.jsonl"); }
  std::string directory(const std::string& name) const { return dir_ / name; }

 private:
  TempDir dir_;
};

const std::string kPlainDescent =
    "train.steps=2 optimizer.kind=sgd optimizer.lr=1 optimizer.clip_norm=0 schedule.kind=constant "
    "schedule.warmup_steps=0 ";

// Activations are rounded to bf16 after sums of another order.
constexpr double kLossBound = 2e-3, kNormBound = 2e-2, kWeightBound = 5e-2;

void check_steps(const Result& got, const Result& want) {
  REQUIRE(got.losses.size() == want.losses.size());
  for (std::size_t i = 0; i < want.losses.size(); ++i) {
    CHECK(got.losses[i] == Approx(want.losses[i]).epsilon(kLossBound));
    CHECK(got.norms[i] == Approx(want.norms[i]).epsilon(kNormBound));
  }
}

void check_weights(const Result& got, const Result& want) {
  REQUIRE(got.weights.size() == want.weights.size());
  for (const auto& [name, values] : want.weights) {
    INFO(name);
    CHECK(largest_difference(got.weights.at(name), values) <= kWeightBound * largest(values));
  }
}

}  // namespace

TEST_CASE("a profiler sees layers, collectives and the work of experts, each range closed", "[program]") {
  Runs runs;
  const TempDir dir;
  const Ran ran = runs.train(
      2, "profiled", "train.steps=1 parallel.ep=2", "streams=lazy",
      fmt::format("NVTX_INJECTION64_PATH={} FAKE_PROFILER_LOG={}", JEVONS_FAKE_PROFILER, dir / "ranges"));
  INFO(ran.output);
  REQUIRE(ran.code == 0);
  for (const char* rank : {"0", "1"}) {
    const std::string ranges = read_bytes(dir / "ranges." + rank);
    for (const char* name : {"layers.1 forward", "layers.0 backward", "dispatch plan", "all_to_all_v",
                             "experts, weight gradient", "optimizer"})
      CHECK_THAT(ranges, ContainsSubstring(std::string("+") + name + "\n"));
    CHECK(std::ranges::count(ranges, '+') == std::ranges::count(ranges, '-'));
  }
}

TEST_CASE("workers on GPUs have the losses, gradients and weights of one on a CPU", "[program]") {
  Runs runs;
  REQUIRE(runs.train(1, "cpu", kPlainDescent + "device=cpu").code == 0);
  const Result want = runs.result("cpu");
  struct Point {
    int workers;
    const char *layout, *emulation;
  };
  const Point points[] = {
      {1, "", "streams=lazy"},
      {2, "parallel.ep=2 parallel.zero_stage=0", "streams=random seed=3"},
      {2, "parallel.tp=2", "streams=lazy"},
      {2, "parallel.ep=2", "streams=lazy devices=1"},  // staged through the hosts
      {4, "parallel.ep=2 train.micro_batch_size=1", "streams=lazy"},
      {4, "parallel.tp=2 parallel.ep=4", "streams=lazy"},
      {2, "parallel.pp=2 parallel.schedule=zb_h1 train.micro_batch_size=1", "streams=lazy"},
      {4, "parallel.pp=2 parallel.ep=2 train.micro_batch_size=1", "streams=random seed=5"},
      {2, "parallel.cp=2 parallel.ep=2", "streams=random seed=7"},
      {4, "parallel.cp=2 parallel.tp=2", "streams=lazy"}};
  int index = 0;
  for (const auto& [workers, layout, emulation] : points) {
    const std::string name = fmt::format("gpu-{}", ++index);
    const Ran ran = runs.train(workers, name, kPlainDescent + "device=auto " + layout, emulation);
    INFO(workers << " workers, " << layout << ", " << emulation << "\n" << ran.output);
    REQUIRE(ran.code == 0);
    CHECK_THAT(ran.output, ContainsSubstring("memory of the GPU"));
    CHECK((ran.output.find("share a GPU") != std::string::npos) ==
          (std::string(emulation).find("devices=1") != std::string::npos));
    check_steps(runs.result(name), want);
    check_weights(runs.result(name), want);
  }
}

TEST_CASE("with a capacity workers on GPUs drop what workers on CPUs drop", "[program]") {
  Runs runs;
  const std::string options =
      kPlainDescent + "parallel.ep=2 model.moe.capacity_factor=0.9 model.moe.dispatch_chunks=2 ";
  REQUIRE(runs.train(2, "cpu", options + "device=cpu").code == 0);
  const Ran ran = runs.train(2, "gpu", options + "device=cuda", "streams=random seed=5");
  INFO(ran.output);
  REQUIRE(ran.code == 0);
  check_steps(runs.result("gpu"), runs.result("cpu"));
  check_weights(runs.result("gpu"), runs.result("cpu"));
}

TEST_CASE("a rank that stops is named by those whose devices wait for it", "[program]") {
  const EndlessJob job(2, "device=cuda train.precision=bf16 parallel.ep=2 watchdog.stall_seconds=6");
  const Ran ran = job.start_and("kill_rank STOP 1");
  INFO(ran.output);
  CHECK(ran.code == 70);
  CHECK_THAT(ran.output, ContainsSubstring("Missing, gave no sign of life: rank 1 (process "));
  CHECK_THAT(ran.output, ContainsSubstring("rank 0: step "));
  // In a collective of the hosts or, mostly, of the devices: late it is not.
  const bool waits =
      ran.output.find("waits for its device, whose last collective is ") != std::string::npos ||
      ran.output.find("inside ") != std::string::npos;
  CHECK(waits);
  CHECK(ran.output.find("Late, ") == std::string::npos);
  CHECK(all_gone("jevons_emulated", job.dir / "run.yaml"));
}

TEST_CASE("a run goes on from a GPU to the CPU and back", "[program]") {
  Runs runs;
  const auto continued = [&](const std::string& name, const std::string& first, const std::string& then) {
    REQUIRE(runs.train(1, name, "train.steps=2 schedule.kind=constant " + first).code == 0);
    const Ran ran = runs.train(2, name, "train.steps=4 schedule.kind=constant parallel.ep=2 " + then);
    INFO(ran.output);
    REQUIRE(ran.code == 0);
    return runs.result(name);
  };
  REQUIRE(runs.train(1, "straight", "train.steps=4 schedule.kind=constant device=cpu").code == 0);
  const Result straight = runs.result("straight");
  check_steps(continued("to-gpu", "device=cpu", "device=cuda"), straight);
  check_steps(continued("to-cpu", "device=cuda", "device=cpu"), straight);
}

TEST_CASE("doctor calls a GPU bad that the program has no code for", "[program]") {
  const Ran ran =
      shell(fmt::format("JEVONS_EMULATION=\"devices=1 code=0\" {} doctor --dir /tmp", JEVONS_PROGRAM));
  INFO(ran.output);
  CHECK(ran.code == 70);
  CHECK_THAT(ran.output, ContainsSubstring("bad   GPU"));
  CHECK_THAT(ran.output, ContainsSubstring("build it with -DJEVONS_CUDA_ARCHITECTURES=90"));
}

TEST_CASE("a failure of NCCL is told with collective, peer and position in the model", "[program]") {
  Runs runs;
  const Ran ran = runs.train(2, "failing", "train.steps=1 device=cuda parallel.ep=2", "nccl_fails=20");
  INFO(ran.output);
  CHECK(ran.code == 70);
  const std::regex message(
      "step 1, micro-batch [0-9]+, [a-z]+ of layer [0-9]+: [a-z_]+ over ep, rank [01] of 2, "
      "(send to|recv from) rank [01]: NCCL: unhandled system error");
  CHECK(std::regex_search(ran.output, message));
}

TEST_CASE("a link that breaks ends the job with the collective that waits, and the account knows why",
          "[program]") {
  Runs runs;
  const Ran ran =
      runs.train(2, "broken", "train.steps=1 device=cuda parallel.ep=2", "nccl_stalls=30 nccl_tells=1");
  INFO(ran.output);
  CHECK(ran.code == 70);
  const std::string message =
      " over ep, rank [01] of 2, or a collective before it: NCCL: remote process exited or there was a "
      "network error";
  CHECK(std::regex_search(ran.output,
                          std::regex("[a-z_]+" + message + " *; all communicators of NCCL are ended")));
  const std::regex placed("step 1, micro-batch [0-9]+, [a-z]+ of layer [0-9]+: [a-z_]+" + message);
  CHECK(std::regex_search(ran.output, placed));
  CHECK(std::regex_search(runs.ledger("broken"), placed));
}

TEST_CASE("NCCL that does not start ends the job by a limit of its own", "[program]") {
  Runs runs;
  const Ran ran = runs.train(2, "unconnected",
                             "train.steps=1 device=cuda parallel.ep=2 watchdog.connect_seconds=2 "
                             "watchdog.stall_seconds=10",
                             "nccl_start_hangs=2");
  INFO(ran.output);
  CHECK(ran.code == 70);
  CHECK_THAT(ran.output, ContainsSubstring("the job does not get on and is ended, exit code 70"));
  CHECK_THAT(ran.output, ContainsSubstring("inside NCCL start 2 over stage"));
}

TEST_CASE("what a GPU cannot do is said before anything is trained", "[program]") {
  Runs runs;
  const auto refused = [&](const std::string& overrides, int code, const std::string& message,
                           const std::string& emulation = "") {
    const Ran ran = runs.train(1, "refused", "train.steps=1 " + overrides, emulation);
    CHECK(ran.code == code);
    CHECK_THAT(ran.output, ContainsSubstring(message));
  };
  refused("device=cuda", 2, "device: cuda: no CUDA driver; use cpu or auto", "devices=0");
  refused("device=auto", 2, "GPU 0, emulated GPU, compute capability 9.0: this program has no code for it",
          "code=0");
}

TEST_CASE("a run that a GPU cannot hold ends before weights are made, on all workers together", "[program]") {
  Runs runs;
  const Ran ran = runs.train(2, "large", "train.steps=1 device=cuda model.hidden_size=256", "memory=4");
  INFO(ran.output);
  CHECK(ran.code == 2);
  CHECK_THAT(
      ran.output,
      ContainsSubstring("of memory at its peak, by the dry run at balanced routing, and 512 MiB for code "
                        "that libraries load; 4.00 MiB of its GPU's 4.00 MiB are free:"));
  for (const char* words : {"weights and gradients", "optimizer", "saved activations", "temporaries",
                            "train.micro_batch_size", "parallel.ep"})
    CHECK_THAT(ran.output, ContainsSubstring(words));
  CHECK(ran.output.find("out of GPU memory") == std::string::npos);
  CHECK(ran.output.find("MPI_ABORT") == std::string::npos);
}

TEST_CASE("workers that share a GPU need its memory together", "[program]") {
  Runs runs;
  const Ran alone = runs.train(1, "alone", "train.steps=1 device=cuda", "memory=1000");
  INFO(alone.output);
  CHECK(alone.code == 0);
  const Ran shared = runs.train(2, "shared", "train.steps=1 device=cuda", "memory=1000 devices=1");
  INFO(shared.output);
  CHECK(shared.code == 2);
  CHECK_THAT(shared.output, ContainsSubstring("are free, for 2 workers that share it:"));
}

TEST_CASE("sequences too long for attention's backward pass are refused by the keys that make them so",
          "[program]") {
  Runs runs;
  const Ran ran = runs.train(
      1, "long",
      "train.steps=1 device=cuda model.seq_len=65536 train.global_batch_size=1 train.micro_batch_size=1",
      "memory=8000");
  INFO(ran.output);
  CHECK(ran.code == 2);
  CHECK_THAT(ran.output,
             ContainsSubstring("are attention's backward pass: at model.seq_len = 65536 it keeps a "
                               "square of the sequence for each of the"));
  CHECK_THAT(ran.output, ContainsSubstring("up to model.seq_len = "));
}

TEST_CASE("a GPU that fills up against the prediction ends the run with who holds what", "[program]") {
  Runs runs;
  const Ran ran = runs.train(1, "full", "train.steps=1 device=cuda", "allocations_fail_after=8");
  INFO(ran.output);
  CHECK(ran.code == 70);
  for (const char* words :
       {"out of GPU memory: cannot allocate", "weights and gradients", "saved activations"})
    CHECK_THAT(ran.output, ContainsSubstring(words));
}

TEST_CASE("the passport of a run on a GPU names the engines of attention", "[program]") {
  Runs runs;
  REQUIRE(runs.train(1, "engines", "train.steps=1 device=cuda", "attention_backward=0").code == 0);
  const nlohmann::json passport =
      nlohmann::json::parse(read_bytes(runs.directory("engines") + "/passport.json"));
  const auto engines = passport.at("attention_engines").get<std::string>();
  CHECK_THAT(engines, ContainsSubstring("attention forward: "));
  CHECK_THAT(engines, ContainsSubstring(": engine 7"));
  CHECK_THAT(engines, ContainsSubstring("attention backward: "));
  CHECK_THAT(engines, ContainsSubstring(": matrix products"));
}

}  // namespace jevons::test
