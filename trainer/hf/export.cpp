#include "trainer/hf/export.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "kernels/core/memory.h"
#include "parallel/agree.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/hf/carried.h"
#include "trainer/hf/export_plan.h"
#include "trainer/hf/hf_config.h"
#include "trainer/hf/model_source.h"
#include "trainer/hf/model_tokenizer.h"
#include "trainer/hf/new_directory.h"
#include "trainer/hf/shards.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

// The weights of a checkpoint as fp32, one after another, as they stand in a folder: pairs of rotary rows of
// latent attention are neighbours, since not all programs read the key that says otherwise.
class Weights {
 public:
  Weights(const ModelSource& source, const ModelConfig& model)
      : source_(*source.weights),
        path_(source.path),
        has_halves_(model.mla.enabled() && model.rope.layout == RopeLayout::kHalf) {}

  // Valid until the next call.
  std::span<const float> read(const WeightPlace& place) {
    const auto bytes = static_cast<std::size_t>(place.shape.numel()) * sizeof(float);
    if (bytes > memory_.bytes()) memory_ = Buffer();  // never both
    if (memory_.bytes() == 0) memory_ = Buffer(Device::kCpu, bytes, Contents::kUndefined);
    const Tensor whole = memory_.view(0, place.shape, DType::kF32);
    const std::vector<std::int64_t> origin(static_cast<std::size_t>(place.shape.ndim()), 0);
    source_.read({{place.name, place.shape, origin, whole}});
    const auto values = whole.span<float>();
    if (has_halves_) make_neighbours(place.rotary, place.shape.dims().back(), values);
    const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
    if (bad != values.end()) {
      fail(ExitCode::kData, "{}: tensor '{}': element {} is {}", path_, place.name, bad - values.begin(),
           *bad);
    }
    return values;
  }

 private:
  const TensorSource& source_;
  std::string path_;
  bool has_halves_;
  Buffer memory_;
};

// In the type of the entry, a part at a time.
void write_values(File& file, std::span<const float> values, DType dtype) {
  constexpr std::size_t kPart = 1 << 20;
  if (dtype == DType::kF32) return file.write(std::as_bytes(values));
  std::vector<bf16> narrow;
  for (std::size_t at = 0; at < values.size(); at += kPart) {
    const auto part = values.subspan(at, std::min(kPart, values.size() - at));
    narrow.resize(part.size());
    std::transform(part.begin(), part.end(), narrow.begin(), [](float v) { return bf16(v); });
    file.write(std::as_bytes(std::span(narrow)));
  }
}

void write_file(const std::string& directory, const ExportFile& plan, Weights& weights) {
  File file = File::create_new((fs::path(directory) / plan.name).string());
  file.write(format_safetensors_header(plan.header));
  for (std::size_t i = 0; i < plan.weights.size(); ++i) {
    write_values(file, weights.read(plan.weights[i]), plan.header.entries[i].dtype);
  }
  file.sync();
}

// What the checkpoint must hold, before anything is written.
void check_weights(const TensorSource& reader, const std::string& path,
                   const std::vector<WeightPlace>& places) {
  for (const WeightPlace& place : places) {
    if (!reader.has(place.name)) fail(ExitCode::kData, "{}: has no tensor '{}'", path, place.name);
  }
}

std::vector<std::string> notes_on(const ModelConfig& model, Precision precision) {
  std::vector<std::string> notes;
  const std::int64_t multiple = precision == Precision::kBF16 ? 8 : 4;
  const bool has_experts = model.moe.router.num_experts > 0;
  if (has_experts && (model.hidden_size % multiple != 0 || model.moe.expert_hidden_size % multiple != 0)) {
    notes.push_back(fmt::format(
        "transformers 5 on a CPU computes experts of widths that are no multiples of {} only with "
        "experts_implementation=\"eager\"",
        multiple));
  }
  if (model.moe.z_loss != 0)
    notes.emplace_back("model.moe.z_loss has no key there; it concerns training alone");
  return notes;
}

struct Plan {
  ModelSource source;
  RunConfig config;
  Family family = Family::kLlama;
  Precision precision = Precision::kBF16;
  std::vector<ExportFile> files;
};

Plan make_plan(const ExportRequest& request) {
  const std::string path = find_checkpoint(request.checkpoint);
  Plan plan;
  plan.source = open_model(path, SourceCheck::kHeaders);
  plan.config = parse_run_config(plan.source.config(), path + " (passport)", {});
  plan.family = family_of(plan.config.model);
  plan.precision = request.precision.value_or(plan.config.train.precision);
  const std::vector<WeightPlace> places = weight_places(plan.family, plan.config.model);
  check_weights(*plan.source.weights, path, places);
  plan.files = plan_files(places, plan.precision, request.shard_bytes);
  return plan;
}

constexpr const char* kGenerationFile = "generation_config.json";

// The ids that begin and end a text, as keys of config.json and generation_config.json.
nlohmann::ordered_json token_ids(const FolderTokenizer& tokenizer) {
  nlohmann::ordered_json ids = nlohmann::ordered_json::object();
  if (tokenizer.begin) ids["bos_token_id"] = *tokenizer.begin;
  if (tokenizer.end) ids["eos_token_id"] = *tokenizer.end;
  return ids;
}

// Beside the weights, by name.
std::map<std::string, std::string> files_beside(const Plan& plan, const FolderTokenizer& tokenizer) {
  std::map<std::string, std::string> files;
  const std::string& carried = plan.source.carried;
  if (tokenizer.keeps_carried && !carried.empty()) {
    for (const std::string& name : carried_files(carried))
      files[name] = read_text_file((fs::path(carried) / name).string());
  }
  const nlohmann::ordered_json ids = token_ids(tokenizer);
  for (const TokenizerFile& file : tokenizer.files) files[file.name] = file.content;
  if (!ids.empty()) files[kGenerationFile] = ids.dump(2) + "\n";
  std::string& config = files[kHfConfigFile];
  config = format_hf_config(plan.config.model, plan.precision, ids.empty() ? config : ids.dump());
  if (plan.files.size() > 1) files[kIndexFile] = format_index(plan.files);
  return files;
}

}  // namespace

Exported export_folder(Communicator& world, const ExportRequest& request) {
  const bool first = world.rank() == 0;
  Plan plan;
  std::vector<std::string> notes;
  std::unique_ptr<NewDirectory> directory;
  agree(world, [&] {
    plan = make_plan(request);
    notes = notes_on(plan.config.model, plan.precision);
    if (!first) return;
    directory = std::make_unique<NewDirectory>(request.folder, std::vector{plan.source.path});
    const FolderTokenizer tokenizer = folder_tokenizer(plan.source);
    for (const auto& [name, content] : files_beside(plan, tokenizer))
      write_new_file(directory->path() + "/" + name, content);
    notes.insert(notes.end(), tokenizer.notes.begin(), tokenizer.notes.end());
  });
  agree(world, [&] {
    Weights weights(plan.source, plan.config.model);
    for (std::size_t i = static_cast<std::size_t>(world.rank()); i < plan.files.size();
         i += static_cast<std::size_t>(world.size())) {
      write_file(unfinished_name(request.folder), plan.files[i], weights);
    }
  });
  agree(world, [&] {
    if (first) directory->finish();
  });
  Exported exported{.checkpoint = plan.source.path,
                    .model_type = std::string(model_type_of(plan.family)),
                    .precision = plan.precision,
                    .files = std::ssize(plan.files),
                    .notes = std::move(notes)};
  for (const ExportFile& file : plan.files) {
    exported.tensors += std::ssize(file.weights);
    exported.bytes += file.bytes;
  }
  return exported;
}

}  // namespace jevons
