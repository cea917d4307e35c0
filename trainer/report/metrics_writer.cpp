#include "trainer/report/metrics_writer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

#include "kernels/core/log.h"
#include "trainer/io/json.h"

namespace jevons {
namespace {

using nlohmann::ordered_json;

struct Line {
  std::int64_t step = 0;
  std::uint64_t branch = 0;
  std::string text;  // without its end
};

// The whole lines of a file, each once; `torn` counts the others.
std::vector<Line> read_lines(const std::string& path, std::unordered_set<std::string>& seen,
                             std::int64_t& torn) {
  std::vector<Line> lines;
  if (!std::filesystem::exists(path)) return lines;
  const std::string text = read_text_file(path);
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    const auto json = ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) {
      ++torn;
    } else if (seen.insert(line).second) {
      lines.push_back({json["step"], json.value("branch", std::uint64_t{0}), line});
    }
  }
  return lines;
}

// Replaces the file if it is not these lines already.
void write_lines(const std::string& path, const std::vector<Line>& lines) {
  std::string text;
  for (const Line& line : lines) text.append(line.text).append("\n");
  const bool exists = std::filesystem::exists(path);
  if (exists ? read_text_file(path) == text : text.empty()) return;
  const std::string temporary = path + ".tmp";
  File file = File::create(temporary);
  file.write(text);
  file.sync();
  rename_durably(temporary, path);
}

std::string left_behind_of(const std::string& path) {
  const std::filesystem::path file = path;
  return (file.parent_path() / (file.stem().string() + ".left-behind" + file.extension().string())).string();
}

// Brings the lines of both files to where they belong; returns the first step of which something changed, or
// `start_step` + 1.
std::int64_t rewind(const std::string& path, std::int64_t start_step, const Lineage& lineage) {
  std::unordered_set<std::string> seen;
  std::int64_t torn = 0, repeated = 0, moved = 0, returned = 0, first_new = start_step + 1;
  std::vector<Line> current, behind, on_the_way;  // those that come back
  const auto place = [&](Line& line, std::int64_t& count, bool is_current) {
    const bool belongs = line.step <= start_step && lineage.branch_at(line.step) == line.branch;
    const bool repeats = line.step > start_step && lineage.branch() == line.branch;
    if (repeats) ++repeated;
    if (!repeats && belongs != is_current) ++count, first_new = std::min(first_new, line.step);
    if (belongs && !is_current) on_the_way.push_back(line);
    if (!repeats) (belongs ? current : behind).push_back(std::move(line));
  };
  // A kill between the writes leaves lines in both files.
  std::vector<Line> old_current = read_lines(path, seen, torn);
  for (Line& line : read_lines(left_behind_of(path), seen, torn)) place(line, returned, false);
  for (Line& line : old_current) place(line, moved, true);
  if (returned > 0) {
    std::stable_sort(current.begin(), current.end(),
                     [](const Line& a, const Line& b) { return a.step < b.step; });
  }
  if (torn + repeated > 0) {
    log_info("{}: {} lines after step {} removed, these steps run again", path, torn + repeated, start_step);
  }
  if (moved + returned > 0) {
    log_info("{}: {} lines that the run has left behind moved to {}, {} brought back", path, moved,
             left_behind_of(path), returned);
  }
  // At every moment each line is in one file at least.
  on_the_way.insert(on_the_way.begin(), behind.begin(), behind.end());
  write_lines(left_behind_of(path), on_the_way);
  write_lines(path, current);
  write_lines(left_behind_of(path), behind);
  return first_new;
}

}  // namespace

MetricsWriter::MetricsWriter(const std::string& path, std::int64_t start_step, const Lineage& lineage)
    : first_new_step_(rewind(path, start_step, lineage)),
      branch_(lineage.branch()),
      file_(File::append(path)) {}

void MetricsWriter::append(ordered_json& line) {
  if (branch_ > 0) line["branch"] = branch_;
  file_.write(line.dump() + "\n");
}

namespace {

ordered_json list_of(const std::vector<std::optional<double>>& figures) {
  ordered_json list = ordered_json::array();
  for (const auto& figure : figures) list.push_back(or_null(figure));
  return list;
}

// Nothing of a model without multi-token prediction.
void add(ordered_json& line, const MtpFigures& mtp) {
  if (mtp.losses.empty()) return;
  line["mtp_losses"] = list_of(mtp.losses);
  line["mtp_acceptance"] = or_null(mtp.acceptance);
}

}  // namespace

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
  if (m.largest_logit) line["largest_logit"] = *m.largest_logit;
  if (!m.mtp_losses.empty()) {
    line["mtp_losses"] = list_of(m.mtp_losses);
    line["mtp_mfu"] = or_null(m.mtp_mfu);
  }
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
  append(line);
}

void MetricsWriter::write(const ValidationMetrics& m) {
  ordered_json line = {{"kind", "validation"},
                       {"step", m.step},
                       {"loss", or_null(m.loss)},
                       {"bits_per_byte", or_null(m.bits_per_byte)},
                       {"sources", ordered_json::array()}};
  add(line, m.mtp);
  for (const SourceLoss& source : m.sources) {
    ordered_json entry = {{"name", source.name},
                          {"share", source.share},
                          {"samples", source.samples},
                          {"loss", or_null(source.loss)},
                          {"bits_per_byte", or_null(source.bits_per_byte)}};
    add(entry, source.mtp);
    line["sources"].push_back(std::move(entry));
  }
  append(line);
}

void MetricsWriter::write(const CheckpointMetrics& m) {
  ordered_json line = {{"kind", "checkpoint"},
                       {"step", m.step},
                       {"bytes", m.bytes},
                       {"stall_seconds", m.stall_seconds},
                       {"write_seconds", m.write_seconds},
                       {"write_bytes_per_second", or_null(m.write_rate())},
                       {"disk_bytes_per_second", or_null(m.disk_rate())}};
  append(line);
}

}  // namespace jevons
