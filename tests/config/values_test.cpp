// Values: defaults, overrides, includes, and that every option arrives where it should.
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "tests/config/sample.h"
#include "tests/support/catch.h"
#include "trainer/config/run_config.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

RunConfig sample(const std::vector<std::string>& overrides = {}) {
  return parse_run_config(test::kSample, "run.yaml", overrides);
}

// A directory of its own, gone at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (fs::temp_directory_path() / "jevons-config-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string write(const std::string& name, const std::string& text) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
    return (path_ / name).string();
  }
  std::string path(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

struct DocumentedOption {
  std::string key, type;
};

// The first two columns of the schema's table.
std::vector<DocumentedOption> documented_options() {
  std::vector<DocumentedOption> options;
  std::istringstream table(describe_schema(SchemaFormat::kMarkdown));
  for (std::string line; std::getline(table, line);) {
    if (!line.starts_with("| `")) continue;
    const std::size_t key_end = line.find('`', 3), type_end = line.find(" |", key_end + 4);
    options.push_back({line.substr(3, key_end - 3), line.substr(key_end + 4, type_end - key_end - 4)});
  }
  return options;
}

std::vector<std::string> values_to_try(const DocumentedOption& option) {
  if (option.type == "true or false") return {"true", "false"};
  if (option.type == "number") return {"0.5", "2", "0.001"};
  if (option.type == "whole number") return {"1", "2", "3", "4", "5", "16", "0"};
  if (option.type == "whole number or auto") return {"auto", "1", "2"};
  if (option.type == "number or size") return {"size", "0.5"};
  if (option.type == "text") return {"other", "0.7", "2 1", "2027-01-01"};
  if (option.type == "number or unchanged") return {"0.5"};
  if (option.type == "list") return {"[{path: x}]", "[{until_steps: 5}]", "[{from_tokens: 5}]"};
  std::vector<std::string> choices;
  std::istringstream names(option.type.substr(std::string("one of ").size()));
  for (std::string name; std::getline(names >> std::ws, name, ',');) choices.push_back(name);
  return choices;
}

}  // namespace

TEST_CASE("config: a weight may be the size of its source", "[config]") {
  const TemporaryDirectory dir;
  const std::string path = dir.write("run.yaml", test::kSample);
  const std::vector<std::string> sized = {"data.train=[{path: a, weight: size}, {path: b, weight: size}]"};
  const RunConfig config = load_run_config(path, sized);
  CHECK(config.data.train[0].weight == DataSource::kBySize);
  const std::string dumped = load_run_config(path, sized).to_yaml();
  CHECK_THAT(dumped, Catch::Matchers::ContainsSubstring("weight: size"));
  CHECK(load_run_config(dir.write("copy.yaml", dumped), {}) == config);
}

TEST_CASE("config: auto for a number is read, kept and written as such", "[config]") {
  const TemporaryDirectory dir;
  const std::string path = dir.write("run.yaml", test::kSample);
  const std::vector<std::string> overrides = {"checkpoint.interval=auto"};
  CHECK(load_run_config(path, overrides).checkpoint.interval == CheckpointConfig::kAuto);
  const std::string written = load_run_config(path, overrides).to_yaml();
  CHECK(written.find("  interval: auto\n") != std::string::npos);
  CHECK(parse_run_config(written, "run.yaml", {}).checkpoint.interval == CheckpointConfig::kAuto);
  CHECK(load_run_config(path, {"checkpoint.interval=7"}).checkpoint.interval == 7);
}

TEST_CASE("config: the defaults of the structs are those of the schema", "[config]") {
  const RunConfig read = parse_run_config(
      "model: {vocab_size: 256, num_layers: 2, hidden_size: 64, num_heads: 4, seq_len: 32, ffn_hidden_size: "
      "96}\n"
      "train: {global_batch_size: 8}\n",
      "some/where/first.yaml", {});
  RunConfig expected;
  expected.name = "first";
  expected.run_dir = "runs/first";
  expected.model.vocab_size = 256;
  expected.model.num_layers = 2;
  expected.model.hidden_size = 64;
  expected.model.num_heads = expected.model.num_kv_heads = 4;
  expected.model.head_dim = 16;
  expected.model.seq_len = expected.data.seq_len = 32;
  expected.model.ffn_hidden_size = 96;
  expected.train.global_batch_size = 8;
  expected.parallel.layout.dp = 0;
  CHECK(read == expected);
}

TEST_CASE("config: every option of the schema changes the run", "[config]") {
  const std::vector<std::string> base = {"model.ffn_hidden_size=48",       "model.moe.router.groups=2",
                                         "data.train=[{path: a}]",         "data.validation=[{path: b}]",
                                         "schedule.decay_steps=6",         "train.micro_batch_size=2",
                                         "train.batch_ramp_start=2",       "train.batch_ramp_samples=7",
                                         "model.moe.router.groups_kept=2", "checkpoint.keep_last=7"};
  const TemporaryDirectory dir;
  const std::string path = dir.write("run.yaml", test::kSample);
  const RunConfig before = read_run_config(path, base).config;
  int tried = 0;
  for (DocumentedOption option : documented_options()) {
    if (option.key == "include") continue;
    if (const std::size_t n = option.key.find(".N."); n != std::string::npos) option.key.replace(n, 3, ".0.");
    bool changed = false;
    for (const std::string& value : values_to_try(option)) {
      std::vector<std::string> overrides = base;
      overrides.push_back(option.key + "=" + value);
      changed = changed || read_run_config(path, overrides).config != before;
    }
    INFO(option.key);
    CHECK(changed);
    ++tried;
  }
  CHECK(tried > 70);
}

TEST_CASE("config: choices arrive as the right enumerators", "[config]") {
  CHECK(sample({"device=cuda", "train.precision=bf16"}).device == DeviceChoice::kCuda);
  CHECK(sample({"device=cpu"}).device == DeviceChoice::kCpu);
  CHECK(sample({"train.precision=bf16"}).train.precision == Precision::kBF16);
  CHECK(sample({"model.qk_norm=head"}).model.qk_norm == QkNorm::kHead);
  CHECK(sample({"model.qk_norm=hidden"}).model.qk_norm == QkNorm::kHidden);
  CHECK(sample({"model.recompute=selective"}).model.recompute == Recompute::kSelective);
  CHECK(sample({"model.recompute=full"}).model.recompute == Recompute::kFull);
  CHECK(sample({"model.moe.router.score=sigmoid"}).model.moe.router.score == ScoreFunction::kSigmoid);
  CHECK(sample({"model.moe.router.group_score=max"}).model.moe.router.group_score == GroupScore::kMax);
  CHECK(sample({"optimizer.kind=sgd"}).optim.kind == OptimizerKind::kSgd);
  CHECK(sample({"schedule.kind=constant"}).optim.schedule == ScheduleKind::kConstant);
  CHECK(sample({"schedule={kind: warmup_stable_decay, decay_steps: 5}"}).optim.schedule ==
        ScheduleKind::kWarmupStableDecay);
  CHECK(sample({"schedule={kind: stages, stages: [{shape: cosine}]}"}).optim.stages[0].shape ==
        StageShape::kCosine);
  CHECK(sample({"checkpoint.on_error=continue"}).checkpoint.on_error == SaveErrorPolicy::kContinue);
  CHECK(sample({"cost.purpose=final"}).cost.purpose == "final");
}

TEST_CASE("config: numbers in all their forms", "[config]") {
  CHECK(sample({"optimizer.lr=1e-3"}).optim.lr == 1e-3);
  CHECK(sample({"optimizer.lr=.5"}).optim.lr == 0.5);
  CHECK(sample({"optimizer.lr=2"}).optim.lr == 2);
  CHECK(sample({"optimizer.lr=+0.25"}).optim.lr == 0.25);
  CHECK(sample({"checkpoint.interval=9223372036854775807"}).checkpoint.interval == INT64_MAX);
  CHECK(sample({"data.seed=18446744073709551615"}).data.seed == UINT64_MAX);
  CHECK(sample({"threads=+3"}).threads == 3);
  CHECK(sample({"cost.project=007"}).cost.project == "007");
  CHECK(sample({"cost.project=a: b, [c] # d"}).cost.project == "a: b, [c] # d");
}

TEST_CASE("config: overrides reach elements of lists and append to them", "[config]") {
  const RunConfig config = sample({"data.train.0.path=a", "data.train.1.path=b", "data.train.1.weight=3",
                                   "data.train.0.weight=0.5", "model.moe={num_experts: 4}"});
  REQUIRE(config.data.train.size() == 2);
  CHECK(config.data.train[0] == DataSource{"a", 0.5});
  CHECK(config.data.train[1] == DataSource{"b", 3});
  CHECK(config.model.moe.router.num_experts == 4);
  CHECK(config.model.moe.router.top_k == 2);  // a section adds to what was there
  CHECK(sample({"threads=1", "threads=2"}).threads == 2);
}

TEST_CASE("config: a file is read over the one it includes", "[config]") {
  const TemporaryDirectory dir;
  dir.write("base/deep.yaml", test::kSample + "data: {train: [{path: old}, {path: older}]}\nthreads: 3\n");
  dir.write("base/middle.yaml", "include: deep.yaml\nmodel: {num_layers: 5}\n");
  const std::string path = dir.write(
      "run.yaml", "include: base/middle.yaml\ndata: {train: [{path: new}]}\nmodel: {seq_len: 64}\n");
  const RunConfig config = load_run_config(path, {"model.num_heads=2"});
  CHECK(config.name == "run");
  CHECK(config.threads == 3);
  CHECK(config.model.num_layers == 5);
  CHECK(config.model.seq_len == 64);
  CHECK(config.model.num_heads == 2);
  CHECK(config.data.train == std::vector<DataSource>{{"new", 1}});
}

TEST_CASE("config: mistakes of included files name the right file", "[config]") {
  const TemporaryDirectory dir;
  const auto refusal = [&](const std::string& path) -> std::string {
    try {
      load_run_config(path, {});
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  };
  const std::string base = dir.write("base.yaml", test::kSample + "threads: x\n");
  const std::string user = dir.write("user.yaml", "include: base.yaml\ndevice: y\n");
  CHECK(refusal(user) == base + ":17:10: threads: expected a whole number, found \"x\"\n" + user +
                             ":2:9: device: expected one of auto, cpu, cuda, found \"y\"");

  const std::string one = dir.write("one.yaml", "include: two.yaml\n");
  const std::string two = dir.write("two.yaml", "\ninclude: ./one.yaml\n");
  CHECK(refusal(one) == two + ":2:10: include: \"" + one + "\" includes itself");
  const std::string lost = dir.write("lost.yaml", "include: nowhere.yaml\n");
  CHECK(refusal(lost) == lost + ":1:10: include: \"" + dir.path("nowhere.yaml") +
                             "\" cannot be read: No such file or directory");
  CHECK(refusal(dir.path("none.yaml")) ==
        dir.path("none.yaml") + ": cannot be read: No such file or directory");
  CHECK(refusal(dir.path("")) == dir.path("") + ": cannot be read: Is a directory");

  // A list that replaces another one is checked by itself.
  dir.write("list.yaml", test::kSample + "data: {train: [{path: old}]}\n");
  const std::string bad = dir.write("bad.yaml", "include: list.yaml\ndata: {train: [{weight: 2}]}\n");
  CHECK(refusal(bad) ==
        bad + ": data.train.0.path is missing: prefix of a .bin/.idx pair, or an llm.c .bin file");
}

TEST_CASE("config: a dumped configuration reads back to the same values", "[config]") {
  const TemporaryDirectory dir;
  const std::string path = dir.write("run.yaml", test::kSample);
  const std::vector<std::string> odd = {"name=odd-1",
                                        "optimizer.lr=0.1234567890123456789",
                                        "optimizer.eps=4.9e-324",
                                        "model.rope.theta=1e300",
                                        "cost.project=say \"no\" \\ yes\tor\x7f é",
                                        "cost.currency=null",
                                        "cost.device_type=true",
                                        "data.train=[{path: '/a b', weight: 0.3}, {path: x~y$/z}]",
                                        "data.seed=18446744073709551615",
                                        "parallel.dp=2",
                                        "run_dir=-x"};
  for (const Comments comments : {Comments::kNone, Comments::kHelp}) {
    const std::string dumped = load_run_config(path, odd).to_yaml(comments);
    const std::string copy = dir.write("copy.yaml", dumped);
    INFO(dumped);
    CHECK(load_run_config(copy, {}) == load_run_config(path, odd));
    CHECK(load_run_config(copy, {}).to_yaml(comments) == dumped);
  }
  CHECK_THAT(
      load_run_config(path, {}).to_yaml(Comments::kHelp),
      Catch::Matchers::ContainsSubstring(
          "  # transformer blocks (layers; at least 1 and at most 65536; required)\n  num_layers: 2\n"));
}

}  // namespace jevons
