#include "trainer/step/compute_device.h"

#include <algorithm>

#include "kernels/attention_scratch.h"
#include "kernels/core/device.h"
#include "kernels/core/error.h"
#include "parallel/agree.h"
#include "parallel/host_exchange.h"
#include "parallel/nccl/device_world.h"
#include "trainer/io/format.h"

namespace jevons {
namespace {

// Kernels of cuBLASLt, cuDNN and NCCL, which come to the GPU when they are first used. An estimate.
constexpr std::size_t kLoadedLater = std::size_t{512} << 20;

std::string bytes_text(std::size_t bytes) {
  return format_bytes(static_cast<double>(bytes));
}

// Where attention's backward pass by cuDNN cannot be cut small enough: what it takes, and what would do.
std::string about_attention(const RunConfig& config) {
  // With fp32 or stripes cuDNN has nothing to do with it.
  if (config.train.precision != Precision::kBF16 || config.parallel.layout.cp > 1) return "";
  const int tp = config.parallel.layout.tp;
  const ModelConfig& m = config.model;
  const AttentionSizes sizes{.batch = config.train.micro_batch_size,
                             .q_len = m.seq_len,
                             .kv_len = m.seq_len,
                             .heads = m.num_heads / tp,
                             .kv_heads = m.num_kv_heads / tp,
                             .dim = m.head_dim,
                             .v_dim = m.v_head_dim(),
                             .documents = config.data.document_mask};
  const std::int64_t bounded = longest_bounded_sequence(sizes);
  if (bounded >= m.seq_len / 128 * 128) return "";
  return fmt::format(
      ". Of the temporaries, {} are attention's backward pass: at model.seq_len = {} it keeps a square of "
      "the sequence for each of the {} query heads that share a key head{}; up to model.seq_len = {}, or "
      "with model.num_kv_heads nearer to num_heads, it takes less",
      bytes_text(attention_scratch_bytes(sizes)), m.seq_len, m.num_heads / m.num_kv_heads,
      sizes.documents ? ", and data.document_mask takes another" : "", bounded);
}

}  // namespace

ChosenDevice choose_device(DeviceChoice wanted, Communicator& hosts) {
  wanted = broadcast(hosts, wanted);
  if (wanted == DeviceChoice::kCpu) return {};
  const device::Availability gpus = device::availability();
  const std::vector<std::string> missing = all_gather_texts(hosts, gpus.devices > 0 ? "" : gpus.reason);
  const auto has_gpu = [](const std::string& reason) { return reason.empty(); };
  const auto first = std::find_if_not(missing.begin(), missing.end(), has_gpu);
  if (first == missing.end()) return {.choice = DeviceChoice::kCuda, .obstacle = ""};
  if (wanted == DeviceChoice::kAuto) return {};
  const bool some_have = std::any_of(missing.begin(), missing.end(), has_gpu);
  const std::string where = some_have ? fmt::format("rank {}: ", first - missing.begin()) : "";
  return {.choice = DeviceChoice::kCuda, .obstacle = where + *first};
}

ComputeDevice::ComputeDevice(DeviceChoice choice, int local_rank, Communicator& hosts) : hosts_(hosts) {
  if (choice != DeviceChoice::kCuda) return;
  device_ = Device::kCuda;
  agree(hosts, [&] { device::select(local_rank % device::availability().devices); });
  stream_.emplace(device_);
  world_ = nccl::make_device_world(hosts, *stream_);
}

bool ComputeDevice::cut_links() noexcept {
  return !stream_ || stream_->links() == nullptr || stream_->links()->cut();
}

void ComputeDevice::require_memory(const MemoryReport& predicted, const RunConfig& config) const {
  if (device_ != Device::kCuda) return;
  const auto workers = static_cast<std::size_t>(nccl::ranks_on_this_gpu(hosts_));
  agree(hosts_, [&] {
    const device::MemoryInfo gpu = device::memory_info();
    // Workers that share a GPU send through the hosts.
    const std::size_t needed = predicted.total() - (workers > 1 ? predicted.communication : 0);
    if (workers * (needed + kLoadedLater) <= gpu.free + gpu.pool_unused) return;
    fail(ExitCode::kUsage,
         "a worker needs {} of memory at its peak, by the dry run at balanced routing, and {} for code that "
         "libraries load; {} of its GPU's {} are free{}:\n{}"
         "Less takes: a smaller train.micro_batch_size, or model.recompute, for activations and temporaries; "
         "parallel.zero_stage = 1 for the optimizer; more workers with a larger parallel.ep or parallel.tp "
         "for everything (jevons plan){}",
         bytes_text(needed), bytes_text(kLoadedLater), bytes_text(gpu.free), bytes_text(gpu.total),
         workers > 1 ? fmt::format(", for {} workers that share it", workers) : "", predicted.to_string(),
         about_attention(config));
  });
}

}  // namespace jevons
