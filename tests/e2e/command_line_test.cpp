// What the program answers to commands that train nothing, and to mistakes on the command line.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"

namespace jevons {
namespace {

using test::Ran;

const std::string kTiny = JEVONS_SOURCE_DIR "/configs/tiny.yaml";

void check_answer(const Ran& ran, int code, const std::string& part) {
  INFO(ran.output);
  CHECK(ran.code == code);
  CHECK_THAT(ran.output, Catch::Matchers::ContainsSubstring(part));
}

}  // namespace

TEST_CASE("command line: mistakes are named and end with code 2", "[e2e]") {
  check_answer(test::jevons(""), 2, "A command is missing.");
  check_answer(test::jevons("data"), 2, "inspect");
  check_answer(test::jevons("trian"), 2, "not expected: trian");
  check_answer(test::jevons("trian"), 2, "Did you mean \"train\"?");
  check_answer(test::jevons("data prepar"), 2, "not expected: prepar");
  check_answer(test::jevons("data prepar"), 2, "Did you mean \"prepare\"?");
  check_answer(test::jevons("train " + kTiny + " --train.steps=5"), 2, "without dashes: train.steps=5\n");
  check_answer(test::jevons("plan " + kTiny + " --model.num_layers 5"), 2,
               "dashes: model.num_layers=VALUE\n");
  check_answer(test::jevons("report x --output=~/y"), 2, "which only a shell replaces");
  check_answer(test::jevons("train"), 2, "file is required");
  check_answer(test::jevons("generate x --max-tokens -1"), 2, "-1 is not a number of at least 1");
  check_answer(test::jevons("train " + kTiny + " --exit-after-minutes inf"), 2,
               "inf is not a number of at least 0");
  check_answer(test::jevons("generate x --temperature nan"), 2, "nan is not a number of at least 0");
  check_answer(test::jevons("--log-level loud doctor"), 2, "loud");
}

// On a machine with a GPU too, since training there is not complete.
TEST_CASE("command line: a GPU that cannot be used is refused with the reason", "[e2e]") {
  const Ran ran = test::jevons("train " + kTiny + " parallel.ep=1 device=cuda");
  check_answer(ran, 2, "device: cuda: ");
  check_answer(ran, 2, "; use cpu or auto");
}

TEST_CASE("command line: help gives defaults, version gives the commit", "[e2e]") {
  check_answer(test::jevons("generate --help"), 0, "--temperature");
  check_answer(test::jevons("generate --help"), 0, "0.8");
  check_answer(test::jevons("--help"), 0, "75 stopped early");
  check_answer(test::jevons("--version"), 0, "jevons 0.");
}

TEST_CASE("command line: pipeline schedules", "[e2e]") {
  const std::string sizes = " --ranks 2 --micro-batches 4";
  const std::string lists =
      "F0.0 F0.1 D0.0 F0.2 D0.1 F0.3 D0.2 D0.3\n"
      "F1.0 D1.0 F1.1 D1.1 F1.2 D1.2 F1.3 D1.3\n";
  const Ran ran = test::jevons("schedule 1f1b" + sizes);
  CHECK(ran.code == 0);
  CHECK(ran.output == lists);
  check_answer(test::jevons("schedule 1f1b --figures" + sizes), 0,
               lists + "\nmakespan 15, of which ranks idle 20.0 %\n");
  check_answer(test::jevons("schedule 1f1b --figures --times 1,2,3 --hop 0.5 --exchange 1" + sizes), 0,
               "makespan 42,");
  check_answer(test::jevons("schedule 1f1b --figures --times 0,0,0" + sizes), 2, "--times are all 0");
  const auto json = nlohmann::json::parse(test::jevons("schedule zb_v --json" + sizes).output);
  CHECK(json["makespan"] == 12.5);
  CHECK(json["placement"] == "v");
  CHECK(json["by_rank"][1]["weights_held"] == 1.5);
  CHECK(json["by_rank"][0]["ring_depths"] == std::vector<int>{4, 1});
  check_answer(test::jevons("schedule interleaved --virtual 4 --pairs" + sizes), 0, "(F");
  check_answer(test::jevons("schedule zb_v --virtual 3" + sizes), 2,
               "zb_v has the 2 stages of a V on each rank");
  check_answer(test::jevons("schedule zb_v --ranks 2"), 2, "zb_v needs --ranks and --micro-batches");
  check_answer(test::jevons("schedule gpipe" + sizes), 2, "gpipe is none of 1f1b, interleaved,");

  const TempDir dir;
  const std::string path = dir / "my.list";
  write_bytes(path, lists);
  check_answer(test::jevons("schedule " + path), 0, lists);
  write_bytes(path, "F0.0 F0.1 D0.0\nF1.0 D1.0\n");
  check_answer(test::jevons("schedule " + path), 2, path + ":1: the backward of F0.1 is missing");
}

TEST_CASE("command line: a plan as JSON has the figures of the text", "[e2e]") {
  const std::string plan = "plan " + kTiny + " --world 2";
  const auto json = nlohmann::json::parse(test::jevons(plan + " --json").output);
  CHECK(json["memory_bytes"]["total"] > 1 << 20);
  check_answer(test::jevons(plan), 0,
               fmt::format("parameters: {} in all", json["parameters"].get<std::int64_t>()));
  CHECK(json["work"]["grouped_gemm"]["flops"] > 0);
  // Its calls one by one add up to the same.
  std::map<std::string, double> flops, bytes, calls;
  for (const auto& call : json["calls"]) {
    const std::string kind = call["kind"];
    const double times = call["calls"];
    calls[kind] += times, bytes[kind] += times * call["bytes"].get<double>();
    flops[kind] += times * call.value("flops", 0.0);
    const auto size = [&call](const char* name) { return call[name].get<double>(); };
    if (kind == "gemm") CHECK(call["flops"] == 2.0 * size("rows") * size("in") * size("out"));
    if (kind == "wire") CHECK(call["ranks"] > 1);
  }
  for (const auto& [kind, work] : json["work"].items()) {
    INFO(kind);
    CHECK(calls[kind] == work["calls"]);
    CHECK(flops[kind] == Approx(work["flops"].get<double>()));
    CHECK(bytes[kind] == Approx(work["bytes"].get<double>()));
  }
}

TEST_CASE("command line: config show prints what it was given, config schema every option", "[e2e]") {
  check_answer(test::jevons("config show " + kTiny + " train.steps=123"), 0, "  steps: 123\n");
  check_answer(test::jevons("config show " + kTiny + " --help-text"), 0, "# transformer blocks");
  check_answer(test::jevons("config schema"), 0, "model.moe.top_k: whole number");
  const Ran wrong = test::jevons("config show " + kTiny + " train.stepz=123 threads=x");
  CHECK(wrong.code == 2);
  CHECK(wrong.output ==
        "command line: unknown key \"train.stepz\"; did you mean \"train.steps\"?\n"
        "command line: threads: expected a whole number, found \"x\"\n");
}

TEST_CASE("command line: five mistakes of a file are five lines, whichever command reads it", "[e2e]") {
  const TempDir dir;
  const std::string path = dir / "run.yaml";
  std::ofstream(path) << "model:\n"
                         "  vocab_size: 256\n"
                         "  num_layers: 2\n"
                         "  hidden_size: 64\n"
                         "  num_heads: 4\n"
                         "  num_kv_heads: 3\n"
                         "  seq_len: 32\n"
                         "  ffn_hidden_size: 64\n"
                         "  qk_norms: head\n"
                         "device: gpu\n"
                         "data: {train: [{path: a, weight: size}, {path: b, weight: 2}]}\n"
                         "train: {global_batch_size: 8, steps: 10}\n"
                         "parallel: {cp: 3}\n";
  const std::string five = fmt::format(
      "{0}:9:3: unknown key \"model.qk_norms\"; did you mean \"model.qk_norm\"?\n"
      "{0}:10:9: device: expected one of auto, cpu, cuda, found \"gpu\"; did you mean \"cpu\"?\n"
      "{0}:6:17: model.num_heads = 4 is not divisible by model.num_kv_heads = 3\n"
      "{0}:11:59: data.train.1.weight = 2, but other sources of data.train have size; give size to all or to "
      "none\n"
      "{0}:13:16: parallel: cp*tp = 3*1 does not divide model.seq_len = 32; cp 1, 2, 4, 8, 16, 32 would "
      "fit\n",
      path);
  for (const char* command : {"config show ", "plan ", "train "}) {
    const Ran ran = test::jevons(command + path);
    INFO(command << ran.output);
    CHECK(ran.code == 2);
    CHECK(ran.output == five);
  }
}

TEST_CASE("command line: a mistake in a job of two workers is told once", "[e2e]") {
  const std::string message =
      "command line: unknown key \"model.num_layer\"; did you mean \"model.num_layers\"?\n";
  const Ran ran = test::mpirun(2, "train " + kTiny + " model.num_layer=2");
  check_answer(ran, 2, message);
  CHECK(ran.output.find(message) == ran.output.rfind(message));
  check_answer(test::mpirun(2, "trian"), 2, "trian");
}

TEST_CASE("command line: doctor reports as JSON, for several workers too", "[e2e]") {
  for (const Ran& ran :
       {test::jevons("doctor --json --dir /tmp"), test::mpirun(2, "doctor --json --dir /tmp 2>/dev/null")}) {
    INFO(ran.output);
    CHECK(ran.code == 0);
    const auto report = nlohmann::json::parse(ran.output, nullptr, false);
    REQUIRE(report.is_object());
    CHECK(report["checks"].size() >= 10);
    for (const auto& check : report["checks"]) {
      CHECK(!check["finding"].get<std::string>().empty());
      CHECK((check["health"] == "ok") == check["advice"].get<std::string>().empty());
    }
  }
  const auto doctor = [](const std::string& environment) {
    return test::shell("env -u OMPI_ALLOW_RUN_AS_ROOT " + environment +
                       " " JEVONS_PROGRAM " doctor --dir /tmp");
  };
  check_answer(doctor(""), 0, geteuid() == 0 ? "refuses to start as root" : "mpirun (Open MPI)");
  check_answer(doctor("PATH=/nowhere"), 0, "install Open MPI");
  const TempDir dir;
  write_bytes(dir / "mpirun", "#!/bin/sh\necho \"mpirun (Open MPI) 3.0.1\"\n");
  std::filesystem::permissions(dir / "mpirun", std::filesystem::perms::owner_all);
  check_answer(doctor(fmt::format("PATH={}:$PATH", dir / "")), 0, "start with the mpirun of the MPI");
  const Ran squeezed = test::shell(test::job_of(2, "taskset -c 0 " JEVONS_PROGRAM " doctor --dir /tmp"));
  check_answer(squeezed, 70, "all of them share 1 core");
  check_answer(test::jevons("doctor --dir /proc/nowhere"), 70, "cannot write in /proc");
}

}  // namespace jevons
