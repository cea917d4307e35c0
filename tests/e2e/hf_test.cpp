// Models go in and out with their tokenizers, by the program: what it writes is known beforehand.
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/tokenizer.h"
#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"
#include "tests/hf/folder_bed.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;
using Json = nlohmann::json;
using test::FolderTensors;
using test::Ran;

const std::string kTokenizer = JEVONS_SOURCE_DIR "/tests/data/tokenizers/bytes.json";
constexpr std::int64_t kVocabulary = 604, kWidth = 608;
constexpr double kScale = 0.2, kEps = 1e-5;

// A Llama that knows one text, "Hello world", in the ids that Hugging Face's tokenizers give it
// (vectors.json) between those that begin and end a text: the embedding of a token is a column of its own,
// attention and FFN add nothing, and the head answers that column with the next token.
void write_one_text(const std::string& folder) {
  const std::vector<std::int32_t> text = {0, 41, 70, 353, 80, 270, 288, 491, 1};
  const std::string config = fmt::format(
      R"({{"model_type":"llama","architectures":["LlamaForCausalLM"],"vocab_size":{},"hidden_size":{},"head_dim":4,
          "num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":4,"max_position_embeddings":32,
          "rms_norm_eps":{},"torch_dtype":"float32"}})",
      kVocabulary, kWidth, kEps);
  FolderTensors tensors = test::tensors_of(config);
  const auto fill = [&](const std::string& name, auto value) {
    test::FolderTensor& tensor = tensors.at(name);
    const std::int64_t columns = tensor.shape.back();
    std::vector<float> values(tensor.bytes.size() / sizeof(float));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(
          value(static_cast<std::int64_t>(i) / columns, static_cast<std::int64_t>(i) % columns));
    tensor.bytes = test::bytes_of(values);
  };
  const auto nothing = [](auto, auto) { return 0.0; };
  fill("model.layers.0.self_attn.o_proj.weight", nothing);
  fill("model.layers.0.mlp.down_proj.weight", nothing);
  fill("model.norm.weight", [](auto, auto) { return 1.0; });
  fill("model.embed_tokens.weight", [](auto row, auto column) { return row == column ? 1.0 : 0.0; });
  fill("lm_head.weight", [&](auto row, auto column) {
    for (std::size_t i = 1; i < text.size(); ++i)
      if (text[i] == row && text[i - 1] == column) return kScale;
    return 0.0;
  });
  test::write_folder(folder, config, tensors);
  write_bytes(folder + "/tokenizer.json", read_bytes(kTokenizer));
  write_bytes(folder + "/tokenizer_config.json", R"({"eos_token":"<|end|>"})");
  write_bytes(folder + "/generation_config.json", R"({"eos_token_id":[1]})");
}

Ran done(const std::string& arguments) {
  Ran ran = test::jevons(arguments);
  INFO(arguments << "\n" << ran.output);
  CHECK(ran.code == 0);
  return ran;
}

Json last_line(const Ran& ran) {
  const std::size_t begin = ran.output.find("{\"");
  REQUIRE(begin != std::string::npos);
  return Json::parse(ran.output.substr(begin, ran.output.find('\n', begin) - begin));
}

// What a model writes behind "the ", always the likeliest token.
std::string continued(const std::string& model, const std::string& prompts) {
  return last_line(done(fmt::format("generate {} --prompts {} --temperature 0 --max-tokens 12 --device cpu",
                                    model, prompts)))
      .dump();
}

}  // namespace

TEST_CASE("an imported model writes and scores text with the tokenizer that it came with", "[e2e]") {
  const TempDir dir;
  write_one_text(dir / "hf");
  write_bytes(dir / "prompts", "H\n");
  write_bytes(dir / "text", "Hello world\n");
  done(fmt::format("checkpoint import {} {}", dir / "hf", dir / "imported"));
  done(fmt::format("checkpoint export {} {}", dir / "imported", dir / "again"));
  // Every token of the line, and the one that begins it, is followed by the one that the head answers with.
  const double logit = kScale / std::sqrt(1.0 / kWidth + kEps);
  const double loss = std::log(std::exp(logit) + kVocabulary - 1) - logit;
  for (const char* model : {"hf", "imported", "again"}) {
    INFO(model);
    CHECK_THAT(done(fmt::format("generate {} --prompt H --temperature 0", dir / model)).output,
               ContainsSubstring("Hello world\n"));
    CHECK(continued(dir / model, dir / "prompts") == Json({{"prompt", "H"},
                                                           {"text", "ello world"},
                                                           {"prompt_tokens", 2},
                                                           {"new_tokens", 6},
                                                           {"ended", true}})
                                                         .dump());
    const Json scored =
        last_line(done(fmt::format("score {} --text {} device=cpu", dir / model, dir / "text")));
    CHECK(scored["target_tokens"] == 7);
    CHECK(scored["loss"].get<double>() == Approx(loss).epsilon(1e-5));
    CHECK(scored["bits_per_byte"].get<double>() == Approx(loss * 7 / 11 / std::log(2.0)).epsilon(1e-5));
  }
}

TEST_CASE("a run's export has the tokenizer of its tokens", "[e2e]") {
  const TempDir dir;
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += fmt::format("In the beginning was word {}, and the word was here.\n", i % 17);
  write_bytes(dir / "book.txt", text);
  write_bytes(dir / "prompts", "the \n");
  done(fmt::format("data train-tokenizer {0}book.txt --vocab-size 320 -o {0}t/tokenizer.json", dir / ""));
  for (const std::string tokenizer : {dir / "t/tokenizer.json", std::string("byte")}) {
    INFO(tokenizer);
    const std::string name = tokenizer == "byte" ? "bytes" : "pairs";
    const std::string run = dir / name + "-run", hf = dir / name + "-hf";
    const int vocabulary = tokenizer == "byte" ? 256 : 320;
    done(fmt::format("data prepare {} --tokenizer {} -o {}", dir / "book.txt", tokenizer, dir / name));
    write_bytes(
        dir / name + ".yaml",
        fmt::format("run_dir: {}\nmodel: {{vocab_size: {}, num_layers: 1, hidden_size: 16, num_heads: 2, "
                    "seq_len: 16, moe: {{num_experts: 4, top_k: 2, expert_hidden_size: 16}}}}\n"
                    "data: {{train: [{{path: {}}}]}}\nschedule: {{kind: constant}}\nthreads: 1\n"
                    "device: cpu\ntrain: {{steps: 5, global_batch_size: 2, micro_batch_size: 1}}\n",
                    run, vocabulary, dir / name));
    done(fmt::format("train {}.yaml", dir / name));
    done(fmt::format("checkpoint export {} {}", run, hf));
    CHECK(continued(hf, dir / "prompts") == continued(run, dir / "prompts"));
    const Json config = Json::parse(read_bytes(hf + "/config.json")),
               generation = Json::parse(read_bytes(hf + "/generation_config.json")),
               classes = Json::parse(read_bytes(hf + "/tokenizer_config.json"));
    const std::int32_t end = load_tokenizer(tokenizer)->separator().value();
    CHECK((end == 0) == (tokenizer == "byte"));
    CHECK(config["eos_token_id"] == end);
    CHECK(generation["eos_token_id"] == end);
    CHECK(classes["tokenizer_class"] == "PreTrainedTokenizerFast");
    CHECK(classes.contains("eos_token") == (tokenizer != "byte"));
    if (tokenizer != "byte") CHECK(read_bytes(hf + "/tokenizer.json") == read_bytes(tokenizer));
  }
  // The tokenizer has changed, then it is gone: the weights go out alone, and the reason is said.
  write_bytes(dir / "t/tokenizer.json", read_bytes(kTokenizer));
  const std::string run = dir / "pairs-run";
  CHECK_THAT(
      done(fmt::format("checkpoint export {} {}", run, dir / "changed")).output,
      ContainsSubstring("no tokenizer is written") && ContainsSubstring("is another one than at training"));
  fs::remove_all(dir / "t");
  CHECK_THAT(done(fmt::format("checkpoint export {} {}", run, dir / "gone")).output,
             ContainsSubstring("is not there any more"));
  CHECK_FALSE(fs::exists(dir / "gone/tokenizer.json"));
}

}  // namespace jevons
