// The configuration reader: any bytes are a configuration or a usage error. What is accepted can be checked
// against a number of workers. A first line of "#!" holds overrides, separated by blanks.
#include <algorithm>
#include <sstream>

#include "kernels/core/error.h"
#include "tests/fuzz/fuzz_target.h"
#include "trainer/config/run_config.h"

namespace {

const std::string kModel =
    "model:\n  vocab_size: 256\n  num_layers: 2\n  hidden_size: 64\n  num_heads: 4\n  seq_len: 32\n"
    "  norm_eps: 1e-5\n  qk_norm: head\n  moe:\n    num_experts: 8\n    top_k: 2\n    expert_hidden_size: "
    "32\n";
const std::string kTrain = "train:\n  steps: 10\n  global_batch_size: 8\n  precision: bf16\n";

std::vector<std::string> overrides_of(const std::string& text) {
  std::vector<std::string> overrides;
  if (!text.starts_with("#!")) return overrides;
  std::istringstream line(text.substr(2, std::min(text.find('\n'), text.size()) - 2));
  for (std::string word; line >> word;) overrides.push_back(word);
  return overrides;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    jevons::parse_run_config(text, "fuzz.yaml", overrides_of(text), {.world = 4});
  } catch (const jevons::Error& error) {
    if (error.code() != jevons::ExitCode::kUsage) throw;
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      "# a comment\n" + kModel +
          "data: {train: [{path: a, weight: 1.5e0}, {path: 'b c'}], validation: []}\n" + kTrain,
      "#! model.num_layers=3 data.train.0.path=x data.validation=[{path: y}] parallel.tp=2 name=\"n\"\n" +
          kModel + kTrain,
      "%YAML 1.2\n---\nbase: &a {<<: *a, x: !!int \"010\"}\n? [key, of, parts]\n: |\n  block\nmodel: "
      "~\ntrain: >-\n"
      "  folded\n...\n---\nsecond: \xc3\xa9\n",
      "include: \"fuzz.yaml\"\nname: \xff\n\ttabs: 1\n",
      "include: other.yaml\nmodel:\n  num_layer: 3\n  num_layers: 1e6\n  num_layers: 99999999999999999999\n",
  };
}
