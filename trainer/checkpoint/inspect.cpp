#include "trainer/checkpoint/inspect.h"

#include <fmt/format.h>

#include <filesystem>

#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/io/format.h"

namespace jevons {
namespace {

// The first line of a note, and how much more there is.
std::string summary_of(const std::string& value) {
  const std::size_t end = value.find('\n');
  if (end == std::string::npos) return value;
  return fmt::format("{} ... ({})", value.substr(0, end), format_bytes(static_cast<double>(value.size())));
}

std::string describe_state(const TrainState& state) {
  std::string text =
      format_table({{"finished steps", format_integer(state.step)},
                    {"optimizer steps", format_integer(state.optimizer_step)},
                    {"samples", format_integer(static_cast<std::int64_t>(state.consumed_samples))},
                    {"tokens", format_integer(state.consumed_tokens)}});
  if (!state.passport.empty()) text += "\npassport\n";
  for (const auto& [key, value] : state.passport) text += fmt::format("  {}: {}\n", key, summary_of(value));
  return text;
}

std::string describe_files(const Manifest& manifest) {
  std::vector<std::size_t> boxes(manifest.files.size());
  for (const StoredTensor& tensor : manifest.tensors) {
    for (const StoredBox& stored : tensor.boxes) ++boxes[stored.file];
  }
  std::vector<std::vector<std::string>> rows = {{"file", "boxes", "bytes"}};
  for (std::size_t i = 0; i < manifest.files.size(); ++i) {
    const StoredFile& file = manifest.files[i];
    rows.push_back(
        {file.name, fmt::format("{}", boxes[i]), format_integer(static_cast<std::int64_t>(file.bytes))});
  }
  return format_table(rows);
}

std::string describe_tensors(const Manifest& manifest) {
  std::vector<std::vector<std::string>> rows = {{"tensor", "dtype", "shape", "boxes", "bytes"}};
  std::int64_t elements = 0;
  for (const StoredTensor& tensor : manifest.tensors) {
    const std::int64_t numel = tensor.shape.numel();
    elements += numel;
    rows.push_back({tensor.name, std::string(name_of(tensor.dtype)), tensor.shape.to_string(),
                    fmt::format("{}", tensor.boxes.size()),
                    format_integer(numel * static_cast<std::int64_t>(size_of(tensor.dtype)))});
  }
  return format_table(rows) +
         fmt::format("{} tensors, {} elements\n", manifest.tensors.size(), format_integer(elements));
}

// The checkpoints beside this one, oldest first; "" for a run that never went back.
std::string describe_line(const std::string& path) {
  const std::filesystem::path directory = std::filesystem::absolute(path).lexically_normal();
  const Catalog catalog(
      (directory.has_filename() ? directory : directory.parent_path()).parent_path().string());
  const Lineage line = catalog.lineage();
  if (line.branches().empty()) return "";
  std::vector<std::vector<std::string>> rows = {{"checkpoint", "branch", "of the run as it stands"}};
  for (const auto& [each, state] : catalog.entries()) {
    const bool belongs = line.branch_at(state.step) == state.lineage.branch();
    rows.push_back({std::filesystem::path(each).filename().string(),
                    fmt::format("{}", state.lineage.branch()), belongs ? "yes" : "no, left behind"});
  }
  std::string text = "\nthe run went back:\n";
  for (const Branch& branch : line.branches()) {
    text += fmt::format("  to step {}, from there on it is branch {}\n", branch.after, branch.id);
  }
  return text + format_table(rows);
}

}  // namespace

std::string describe_checkpoint(const std::string& path) {
  const Manifest manifest = load_manifest(path);
  return fmt::format("{}\n\n{}{}\n{}\n{}", path, describe_state(manifest.state), describe_line(path),
                     describe_files(manifest), describe_tensors(manifest));
}

CheckpointSize size_of_checkpoint(const std::string& path) {
  const Manifest manifest = load_manifest(path);
  CheckpointSize size;
  size.tensors = static_cast<std::int64_t>(manifest.tensors.size());
  size.files = static_cast<std::int64_t>(manifest.files.size());
  for (const StoredTensor& tensor : manifest.tensors)
    size.boxes += static_cast<std::int64_t>(tensor.boxes.size());
  for (const StoredFile& file : manifest.files) size.bytes += static_cast<double>(file.bytes);
  return size;
}

}  // namespace jevons
