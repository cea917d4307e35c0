#include "trainer/report/metrics_writer.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "kernels/core/log.h"
#include "trainer/io/json.h"

namespace jevons {
namespace {

using nlohmann::ordered_json;

// Whether a line of an earlier launch stays: whole, and of a step that is not repeated.
bool stays(std::string_view line, std::int64_t start_step) {
  const auto json = ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) return false;
  return json["step"].get<std::int64_t>() <= start_step;
}

// Rewrites the file without the lines that do not stay.
void rewind(const std::string& path, std::int64_t start_step) {
  if (!std::filesystem::exists(path)) return;
  const std::string text = read_text_file(path);
  std::string kept;
  std::int64_t removed = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (stays(line, start_step)) {
      kept.append(line).append("\n");
    } else {
      ++removed;
    }
    begin = end + 1;
  }
  if (kept == text) return;
  log_info("{}: {} lines after step {} removed, these steps run again", path, removed, start_step);
  const std::string temporary = path + ".tmp";
  File file = File::create(temporary);
  file.write(kept);
  file.sync();
  rename_durably(temporary, path);
}

File rewind_and_open(const std::string& path, std::int64_t start_step) {
  rewind(path, start_step);
  return File::append(path);
}

}  // namespace

MetricsWriter::MetricsWriter(const std::string& path, std::int64_t start_step)
    : file_(rewind_and_open(path, start_step)) {}

// Numbers that are not finite become null.
void MetricsWriter::write(const StepMetrics& m) {
  ordered_json line = {{"kind", "step"},
                       {"step", m.step},
                       {"tokens", m.tokens},
                       {"loss", or_null(m.loss)},
                       {"lr", m.lr},
                       {"grad_norm", m.grad_norm},
                       {"skipped", m.skipped},
                       {"spike", m.spike},
                       {"skipped_steps", m.skipped_steps},
                       {"step_seconds", m.step_seconds},
                       {"tokens_per_second", or_null(m.tokens_per_second)},
                       {"devices", m.devices},
                       {"mfu", or_null(m.mfu)},
                       {"device_seconds", m.device_seconds},
                       {"cost", or_null(m.cost)},
                       {"currency", m.currency},
                       {"arena_peak_bytes", m.arena_peak_bytes},
                       {"arena_held_bytes", m.arena_held_bytes}};
  if (m.ranks) {
    const RankSpread& r = *m.ranks;
    line["rank_seconds"] = {{"min", r.min}, {"mean", r.mean}, {"max", r.max}, {"slowest", r.slowest}};
  }
  for (const LayerLoad& load : m.layers) {
    ordered_json layer = {{"layer", load.layer},
                          {"max_over_mean", load.max_over_mean},
                          {"dead_experts", load.dead_experts},
                          {"router_entropy", load.router_entropy},
                          {"dropped_tokens", load.dropped_tokens},
                          {"max_rows", load.max_rows},
                          {"balance_loss", or_null(load.balance_loss)},
                          {"sequence_balance_loss", or_null(load.sequence_balance_loss)},
                          {"global_balance_loss", or_null(load.global_balance_loss)},
                          {"z_loss", or_null(load.z_loss)}};
    for (const double of_mean : load.load) layer["load_percent"].push_back(std::lround(100 * of_mean));
    line["moe"].push_back(std::move(layer));
  }
  file_.write(line.dump() + "\n");
}

void MetricsWriter::write(const ValidationMetrics& m) {
  ordered_json line = {{"kind", "validation"},
                       {"step", m.step},
                       {"loss", or_null(m.loss)},
                       {"bits_per_byte", or_null(m.bits_per_byte)},
                       {"sources", ordered_json::array()}};
  for (const SourceLoss& source : m.sources) {
    line["sources"].push_back({{"name", source.name},
                               {"share", source.share},
                               {"samples", source.samples},
                               {"loss", or_null(source.loss)},
                               {"bits_per_byte", or_null(source.bits_per_byte)}});
  }
  file_.write(line.dump() + "\n");
}

void MetricsWriter::write(const CheckpointMetrics& m) {
  const ordered_json line = {{"kind", "checkpoint"},
                             {"step", m.step},
                             {"bytes", m.bytes},
                             {"stall_seconds", m.stall_seconds},
                             {"write_seconds", m.write_seconds},
                             {"write_bytes_per_second", or_null(m.write_rate())},
                             {"disk_bytes_per_second", or_null(m.disk_rate())}};
  file_.write(line.dump() + "\n");
}

}  // namespace jevons
