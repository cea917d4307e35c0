// Import and export by one rank and several: the same bytes, all fail together, nothing is left behind.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/hf/folder_bed.h"
#include "tests/state/checkpoint_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "trainer/checkpoint/compare.h"
#include "trainer/checkpoint/saver.h"
#include "trainer/hf/export.h"
#include "trainer/hf/hf_config.h"
#include "trainer/hf/import.h"
#include "trainer/hf/model_source.h"
#include "trainer/hf/share.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;

// "code: message" of every rank's error, "" for none.
template <class Body>
std::vector<std::string> failures_of(int ranks, Body body) {
  return run_ranks(ranks, [&](Communicator& world) {
    try {
      body(world);
    } catch (const Error& error) {
      return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
    }
    return std::string();
  });
}

void import_with(int ranks, const std::string& folder, const std::string& target) {
  run_ranks(ranks, [&](Communicator& world) { import_folder(world, folder, target); });
}

void export_with(int ranks, const std::string& checkpoint, const std::string& folder,
                 Precision precision = Precision::kF32) {
  run_ranks(ranks, [&](Communicator& world) {
    export_folder(world,
                  {.checkpoint = checkpoint, .folder = folder, .precision = precision, .shard_bytes = 2000});
  });
}

std::int64_t differences(const std::string& a, const std::string& b) {
  std::int64_t count = 0;
  for (const TensorDifference& d : compare_tensors(*open_model(a, SourceCheck::kHeaders).weights,
                                                   *open_model(b, SourceCheck::kHeaders).weights)) {
    if (d.kind != TensorDifference::Kind::kEqual) ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("import and export: any number of ranks, and back bit for bit", "[ranks]") {
  for (const Family family : kFamilies) {
    const Scratch scratch;
    const std::string folder = scratch.path("hf");
    once([&] {
      write_tiny(folder, family, 3);
      write_contents(folder + "/tokenizer.json", "{\"anything\":1}");
      write_contents(folder + "/generation_config.json", "{\"eos_token_id\":[1,2]}");
      write_contents(folder + "/README.md", "stays");
    });
    import_with(1, folder, scratch.path("one"));
    import_with(3, folder, scratch.path("three"));
    CHECK(differences(folder, scratch.path("one")) == 0);
    CHECK(differences(folder, scratch.path("three")) == 0);
    CHECK_NOTHROW(CheckpointReader(scratch.path("three")).verify());
    CHECK(contents_of(scratch.path("one/model.yaml")).starts_with("model:\n  vocab_size: 20\n"));
    export_with(1, scratch.path("one"), scratch.path("out1"));
    export_with(3, scratch.path("three"), scratch.path("out3"));
    const auto files = files_of(scratch.path("out1"));
    CHECK(files == files_of(scratch.path("out3")));
    CHECK(files.contains("model.safetensors.index.json"));
    CHECK(files.at("tokenizer.json") == "{\"anything\":1}");
    CHECK(files.at("generation_config.json") == "{\"eos_token_id\":[1,2]}");
    CHECK_FALSE(files.contains("README.md"));
    import_with(2, scratch.path("out1"), scratch.path("again"));
    CHECK(differences(scratch.path("one"), scratch.path("again")) == 0);
    // Through bf16 and back: rounded once.
    export_with(2, scratch.path("one"), scratch.path("narrow"), Precision::kBF16);
    import_with(1, scratch.path("narrow"), scratch.path("narrow-in"));
    export_with(1, scratch.path("narrow-in"), scratch.path("narrow2"), Precision::kBF16);
    CHECK(files_of(scratch.path("narrow")) == files_of(scratch.path("narrow2")));
    CHECK(differences(scratch.path("one"), scratch.path("narrow-in")) > 0);
  }
}

namespace {

// DeepSeek-V3 with 6 rotary rows in a head, whose pairs are halves or neighbours.
std::string rotary_config(bool neighbours, bool with_q_latent) {
  nlohmann::json config = nlohmann::json::parse(tiny_config(Family::kDeepseekV3));
  config["qk_rope_head_dim"] = 6;
  config["rope_interleave"] = neighbours;
  if (!with_q_latent) config["q_lora_rank"] = nullptr;
  return config.dump();
}

// Row 2i of a head's rotary rows becomes row i, row 2i + 1 row i + 3.
void make_halves(FolderTensor& tensor, std::size_t head) {
  constexpr std::size_t kTurned = 6;
  const std::string neighbours = tensor.bytes;
  const std::size_t row = neighbours.size() / static_cast<std::size_t>(tensor.shape[0]);
  for (std::size_t first = head - kTurned; first * row < neighbours.size(); first += head) {
    for (std::size_t i = 0; i < 3; ++i) {
      tensor.bytes.replace((first + i) * row, row, neighbours, (first + 2 * i) * row, row);
      tensor.bytes.replace((first + i + 3) * row, row, neighbours, (first + 2 * i + 1) * row, row);
    }
  }
}

FolderTensors in_halves(FolderTensors tensors) {
  for (auto& [name, tensor] : tensors) {
    if (name.ends_with("q_b_proj.weight") || name.ends_with("q_proj.weight")) make_halves(tensor, 4 + 6);
    if (name.ends_with("kv_a_proj_with_mqa.weight")) make_halves(tensor, 8 + 6);
  }
  return tensors;
}

// The folder's tensors as they stand there, as a checkpoint of a run with model.rope.layout = half.
void save_as_trained_in_halves(const std::string& folder, const std::string& checkpoint) {
  run_ranks(1, [&](Communicator& world) {
    ModelSource source = open_model(folder, SourceCheck::kHeaders);
    std::string& config = source.state.passport["config"];
    const std::string neighbours = "layout: interleaved";
    config.replace(config.find(neighbours), neighbours.size(), "layout: half");
    std::vector<TensorBox> boxes;
    for (const TensorEntry& tensor : source.weights->tensors()) {
      const std::vector<std::int64_t> origin(static_cast<std::size_t>(tensor.shape.ndim()), 0);
      boxes.push_back(
          {tensor.name, tensor.shape, origin, {nullptr, tensor.shape, tensor.dtype, Device::kCpu}});
    }
    fs::create_directories(checkpoint);
    Buffer memory;
    save_one_by_one(world, checkpoint, source.state, boxes, [&](const TensorBox& box) {
      memory = Buffer(Device::kCpu, box.local.bytes());
      TensorBox filled = box;
      filled.local = memory.view(0, box.local.shape, box.local.dtype);
      source.weights->read({filled});
      return filled.local;
    });
  });
}

}  // namespace

TEST_CASE("rotary rows in halves: read and written as neighbours, by any number of ranks", "[ranks]") {
  for (const bool with_q_latent : {true, false}) {
    const Scratch scratch;
    const std::string config = rotary_config(true, with_q_latent);
    once([&] {
      const FolderTensors neighbours = tensors_of(config), halves = in_halves(neighbours);
      write_folder(scratch.path("neighbours"), config, neighbours);
      write_folder(scratch.path("halves"), rotary_config(false, with_q_latent), halves);
      write_folder(scratch.path("raw"), config, halves);
    });
    import_with(1, scratch.path("neighbours"), scratch.path("a"));
    import_with(3, scratch.path("halves"), scratch.path("b"));
    CHECK(differences(scratch.path("a"), scratch.path("b")) == 0);
    CHECK(differences(scratch.path("a"), scratch.path("raw")) > 0);
    CHECK(contents_of(scratch.path("b/model.yaml")).find("layout: interleaved") != std::string::npos);
    export_with(2, scratch.path("b"), scratch.path("out"));
    import_with(1, scratch.path("out"), scratch.path("again"));
    CHECK(differences(scratch.path("b"), scratch.path("again")) == 0);
    // A run that was trained in halves.
    save_as_trained_in_halves(scratch.path("raw"), scratch.path("native"));
    export_with(3, scratch.path("native"), scratch.path("native-out"));
    auto native = files_of(scratch.path("native-out")), expected = files_of(scratch.path("out"));
    native.erase("config.json"), expected.erase("config.json");
    CHECK(native == expected);
    CHECK(nlohmann::json::parse(contents_of(scratch.path("native-out/config.json")))["rope_interleave"] ==
          true);
  }
}

TEST_CASE("import: what one rank finds damaged fails all, and nothing is left", "[ranks]") {
  const Scratch scratch;
  const std::string folder = scratch.path("hf");
  once([&] {
    FolderTensors tensors = tiny_tensors(Family::kMixtral);
    tensors["lm_head.weight"].bytes.replace(0, 4, std::string("\0\0\xc0\x7f", 4));  // read by the last rank
    write_folder(folder, tiny_config(Family::kMixtral), tensors, 2);
  });
  const std::vector<std::string> failures =
      failures_of(3, [&](Communicator& world) { import_folder(world, folder, scratch.path("out")); });
  for (const std::string& failure : failures) {
    CHECK(failure.find("65: rank 2: ") == 0);
    CHECK(failure.find("lm_head.weight': the element in row 0, column 0 is nan") != std::string::npos);
  }
  CHECK_FALSE(fs::exists(scratch.path("out")));
  CHECK_FALSE(fs::exists(scratch.path("out.unfinished")));
}

TEST_CASE("import and export write over nothing, and into no input", "[ranks]") {
  const Scratch scratch;
  const std::string folder = scratch.path("hf"), taken = scratch.path("taken");
  once([&] {
    write_tiny(folder, Family::kLlama);
    fs::create_directories(taken);
    write_contents(taken + "/mine", "mine");
    fs::create_directories(scratch.path("empty"));
  });
  const auto import_failure = [&](const std::string& target) {
    return failures_of(2, [&](Communicator& world) { import_folder(world, folder, target); });
  };
  for (const std::string& target : {taken, folder, folder + "/inside", taken + "/mine"}) {
    for (const std::string& failure : import_failure(target)) CHECK(failure.starts_with("2: "));
  }
  CHECK(contents_of(taken + "/mine") == "mine");
  CHECK_FALSE(fs::exists(folder + "/inside"));
  for (const std::string& failure : import_failure(scratch.path("empty"))) CHECK(failure.empty());
  const auto export_failure = [&](const std::string& target) {
    return failures_of(2, [&](Communicator& world) {
      export_folder(world, {.checkpoint = scratch.path("empty"), .folder = target});
    });
  };
  for (const std::string& target : {taken, scratch.path("empty"), scratch.path("empty/x")}) {
    for (const std::string& failure : export_failure(target)) CHECK(failure.starts_with("2: "));
  }
  for (const std::string& failure : export_failure(scratch.path("good"))) CHECK(failure.empty());
  for (const std::string& failure :
       failures_of(2, [&](Communicator& world) { import_folder(world, taken, scratch.path("new")); })) {
    CHECK(failure.find("no Hugging Face folder") != std::string::npos);
  }
}

TEST_CASE("share: every piece has one rank, and ranks have about as much") {
  const std::vector<std::int64_t> sizes = {10, 1, 1, 1, 1, 10, 2, 2, 4, 4};
  for (const int ranks : {1, 2, 3, 7, 20}) {
    std::size_t next = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto [begin, end] = share_of(sizes, rank, ranks);
      CHECK(begin == next);
      CHECK(end >= begin);
      next = end;
    }
    CHECK(next == sizes.size());
  }
  CHECK(share_of(sizes, 0, 2) == std::pair<std::size_t, std::size_t>{0, 5});
}

}  // namespace jevons::test
