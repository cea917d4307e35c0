#include "trainer/hf/import.h"

#include <filesystem>
#include <memory>
#include <optional>

#include "kernels/core/error.h"
#include "kernels/core/memory.h"
#include "parallel/agree.h"
#include "trainer/checkpoint/saver.h"
#include "trainer/config/run_config.h"
#include "trainer/hf/carried.h"
#include "trainer/hf/model_source.h"
#include "trainer/hf/new_directory.h"
#include "trainer/hf/share.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

// The boxes of this rank: whole tensors, of which only the shape is known yet.
std::vector<TensorBox> boxes_of(const std::vector<TensorEntry>& tensors, const Communicator& world) {
  std::vector<std::int64_t> sizes;
  for (const TensorEntry& tensor : tensors) sizes.push_back(tensor.shape.numel());
  const auto [begin, end] = share_of(sizes, world.rank(), world.size());
  std::vector<TensorBox> boxes;
  for (std::size_t i = begin; i < end; ++i) {
    const TensorEntry& tensor = tensors[i];
    const std::vector<std::int64_t> origin(static_cast<std::size_t>(tensor.shape.ndim()), 0);
    boxes.push_back({tensor.name, tensor.shape, origin, {nullptr, tensor.shape, tensor.dtype, Device::kCpu}});
  }
  return boxes;
}

// The section of the model alone, for a run's configuration to include.
std::string model_section(const std::string& yaml) {
  const std::size_t begin = yaml.find("\nmodel:\n") + 1;
  std::size_t end = begin + 1;
  while ((end = yaml.find('\n', end) + 1) != 0 && end < yaml.size() && yaml[end] == ' ') {
  }
  return yaml.substr(begin, end == 0 ? std::string::npos : end - begin);
}

}  // namespace

Imported import_folder(Communicator& world, const std::string& folder, const std::string& target) {
  const bool first = world.rank() == 0;
  ModelSource source;
  std::unique_ptr<NewDirectory> directory;
  agree(world, [&] {
    if (!is_hf_folder(folder))
      fail(ExitCode::kData, "{}: is no Hugging Face folder: it has no config.json", folder);
    source = open_model(folder, first ? SourceCheck::kContents : SourceCheck::kHeaders);
    if (!first) return;
    directory = std::make_unique<NewDirectory>(target, std::vector{folder});
    carry_into(folder, directory->path());
    write_new_file(directory->path() + "/model.yaml", model_section(source.config()));
  });
  Buffer memory;
  save_one_by_one(world, unfinished_name(target), source.state, boxes_of(source.weights->tensors(), world),
                  [&](const TensorBox& box) {
                    if (box.local.bytes() > memory.bytes()) memory = Buffer();  // never both
                    if (memory.bytes() == 0)
                      memory = Buffer(Device::kCpu, box.local.bytes(), Contents::kUndefined);
                    TensorBox filled = box;
                    filled.local = memory.view(0, box.local.shape, box.local.dtype);
                    source.weights->read({filled});
                    return filled.local;
                  });
  agree(world, [&] {
    if (first) directory->finish();
  });
  Imported imported{.origin = source.state.passport.at("source"), .not_taken = source.not_taken};
  for (const TensorEntry& tensor : source.weights->tensors()) {
    imported.tensors += 1;
    imported.parameters += tensor.shape.numel();
  }
  return imported;
}

}  // namespace jevons
