// Whatever is wrong with a folder, it is said with file and tensor, as exit code 65.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/hf/folder_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/hf/model_source.h"
#include "trainer/hf/shards.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;

const std::string kTable = "model.embed_tokens.weight", kNorm = "model.norm.weight";

std::string open_error(const std::string& folder) {
  ExitCode code = ExitCode::kOk;
  const std::string message = error_of([&] { open_model(folder, SourceCheck::kContents); }, &code);
  CHECK((message.empty() || code == ExitCode::kData));
  return message;
}

std::string opened(const std::string& config, const FolderTensors& tensors) {
  const Scratch scratch;
  write_folder(scratch.path("hf"), config, tensors);
  return open_error(scratch.path("hf"));
}

bool has_parts(const std::string& text, const std::vector<std::string>& parts) {
  INFO(text);
  for (const std::string& part : parts) {
    INFO(part);
    CHECK(text.find(part) != std::string::npos);
  }
  return !text.empty();
}

}  // namespace

TEST_CASE("folder: one file or several, as it should be") {
  for (const Family family : kFamilies) {
    for (const std::size_t files : {1, 3}) {
      const Scratch scratch;
      write_tiny(scratch.path("hf"), family, files);
      CHECK(open_error(scratch.path("hf")).empty());
    }
  }
}

TEST_CASE("folder: a shard that is cut short, missing, or no safetensors file") {
  const Scratch scratch;
  const std::string folder = scratch.path("hf"), shard = folder + "/part-1.safetensors";
  write_tiny(folder, Family::kLlama, 3);
  const std::string whole = contents_of(shard);
  write_contents(shard, whole.substr(0, whole.size() - 1));
  CHECK(has_parts(open_error(folder), {"part-1.safetensors", "tensors take", "it ends before 'model."}));
  write_contents(shard, whole.substr(0, 4));
  CHECK(has_parts(open_error(folder), {"part-1.safetensors", "too few"}));
  write_contents(shard, std::string("\0\0\0\0\0\0\0\x80", 8) + whole.substr(8));  // a header of 2^63 bytes
  CHECK(has_parts(open_error(folder), {"part-1.safetensors", "9223372036854775808"}));
  fs::remove(shard);
  CHECK(has_parts(open_error(folder),
                  {"model.safetensors.index.json", "part-1.safetensors", "'model.", "missing"}));
  fs::remove(folder + "/model.safetensors.index.json");
  CHECK(has_parts(open_error(folder), {"neither model.safetensors nor"}));
}

TEST_CASE("folder: an index that lies") {
  const Scratch scratch;
  const std::string folder = scratch.path("hf"), path = folder + "/model.safetensors.index.json";
  write_tiny(folder, Family::kLlama, 2);
  const auto good = nlohmann::json::parse(contents_of(path));
  const auto error_with = [&](auto change) {
    nlohmann::json index = good;
    change(index);
    write_contents(path, index.dump());
    return open_error(folder);
  };
  CHECK(error_with([](nlohmann::json&) {}).empty());
  const auto other = [](nlohmann::json& index) {
    auto& file = index["weight_map"][kNorm];
    file = file == "part-0.safetensors" ? "part-1.safetensors" : "part-0.safetensors";
  };
  CHECK(has_parts(error_with(other), {"index.json", kNorm, "does not have it"}));
  CHECK(has_parts(error_with([](nlohmann::json& i) { i["weight_map"].erase(kNorm); }),
                  {kNorm, "not in the index"}));
  CHECK(has_parts(error_with([](nlohmann::json& i) { i["weight_map"]["ghost"] = "part-0.safetensors"; }),
                  {"ghost"}));
  CHECK(has_parts(error_with([](nlohmann::json& i) { i["weight_map"]["x"] = "../part-0.safetensors"; }),
                  {"'x'", "no file of this folder"}));
  CHECK(has_parts(error_with([](nlohmann::json& i) { i["weight_map"]["x"] = 3; }), {"'x'"}));
  CHECK(has_parts(error_with([](nlohmann::json& i) { i.erase("weight_map"); }), {"has no weight_map"}));
  write_contents(path, R"({"weight_map":{"a":"f","a":"g"}})");
  CHECK(has_parts(open_error(folder), {"index.json", "'a' twice"}));
  write_contents(path, "{");
  CHECK(has_parts(open_error(folder), {"index.json", "not valid JSON"}));
}

TEST_CASE("folder: a tensor that is in two files") {
  const Scratch scratch;
  const std::string folder = scratch.path("hf");
  write_tiny(folder, Family::kLlama, 2);
  FolderTensors all = tiny_tensors(Family::kLlama), second;
  std::size_t i = 0;
  for (const auto& [name, tensor] : all) {
    if (i++ % 2 == 1 || name == all.begin()->first) second[name] = tensor;
  }
  write_contents(folder + "/part-1.safetensors", safetensors_of(second));
  CHECK(has_parts(open_error(folder),
                  {"part-1.safetensors", all.begin()->first, "is in", "part-0.safetensors too"}));
}

TEST_CASE("folder: tensors that the model of config.json does not have, or has otherwise") {
  const std::string config = tiny_config(Family::kLlama);
  FolderTensors tensors = tiny_tensors(Family::kLlama);
  FolderTensors less = tensors;
  less.erase(kNorm);
  CHECK(has_parts(opened(config, less), {"has no tensor", kNorm}));
  less = tensors;
  less.erase("lm_head.weight");
  CHECK(has_parts(opened(config, less), {"lm_head.weight"}));  // not tied
  FolderTensors more = tensors;
  more["model.layers.0.self_attn.q_proj.bias"] = {"F32", {16}, bytes_of(std::vector<float>(16))};
  CHECK(has_parts(opened(config, more), {"model.safetensors", "q_proj.bias", "no place"}));
  more = tensors;
  more["model.layers.0.self_attn.rotary_emb.inv_freq"] = {"F32", {2}, bytes_of({1, 2})};
  CHECK(opened(config, more).empty());
  FolderTensors other = tensors;
  other[kNorm] = {"F32", {15}, bytes_of(std::vector<float>(15))};
  CHECK(has_parts(opened(config, other), {"model.safetensors", kNorm, "(15)", "(16)"}));
  other = tensors;
  other[kNorm] = {"F64", {16}, std::string(128, '\0')};
  CHECK(has_parts(opened(config, other), {kNorm, "F64"}));
}

TEST_CASE("folder: tied embeddings, without a head, with the same one, and with another") {
  const std::string config = tiny_config(Family::kLlama, R"("tie_word_embeddings":true)");
  FolderTensors tensors = tiny_tensors(Family::kLlama);
  tensors["lm_head.weight"] = tensors[kTable];
  CHECK(opened(config, tensors).empty());
  tensors["lm_head.weight"].bytes[5] ^= 1;
  CHECK(has_parts(opened(config, tensors), {"model.safetensors", "lm_head.weight", "differs", kTable}));
  tensors.erase("lm_head.weight");
  CHECK(opened(config, tensors).empty());
}

TEST_CASE("folder: weights that are no numbers are found when they are read") {
  const Scratch scratch;
  FolderTensors tensors = tiny_tensors(Family::kLlama);
  std::string& bytes = tensors[kTable].bytes;
  bytes.replace(4 * 17, 4, std::string("\0\0\x80\x7f", 4));  // infinity
  write_folder(scratch.path("hf"), tiny_config(Family::kLlama), tensors);
  const ModelSource source = open_model(scratch.path("hf"), SourceCheck::kContents);
  const Buffer memory(Device::kCpu, 20 * 16 * sizeof(float));
  ExitCode code = ExitCode::kOk;
  CHECK(has_parts(
      error_of(
          [&] {
            source.weights->read({{"embedding", {20, 16}, {0, 0}, memory.view(0, {20, 16}, DType::kF32)}});
          },
          &code),
      {"model.safetensors", kTable, "row 1, column 1", "inf"}));
  CHECK(code == ExitCode::kData);
}

}  // namespace jevons::test
