#include "trainer/report/console_line.h"

#include <fmt/core.h>

#include <algorithm>

#include "trainer/io/format.h"

namespace jevons {
namespace {

// Mean over the layers of the first balance loss that the model has; nothing without any.
std::optional<double> mean_balance_loss(const std::vector<LayerLoad>& layers) {
  for (const auto loss :
       {&LayerLoad::balance_loss, &LayerLoad::sequence_balance_loss, &LayerLoad::global_balance_loss}) {
    double sum = 0;
    if (layers.empty() || !(layers.front().*loss)) continue;
    for (const LayerLoad& layer : layers) sum += (layer.*loss).value_or(0);
    return sum / static_cast<double>(layers.size());
  }
  return std::nullopt;
}

// The load of the layer that is balanced worst; dead experts and dropped tokens of all layers.
std::string describe_load(const std::vector<LayerLoad>& layers) {
  double load = 0;
  std::int64_t dead = 0, dropped = 0;
  for (const LayerLoad& layer : layers) {
    load = std::max(load, layer.max_over_mean);
    dead += layer.dead_experts;
    dropped += layer.dropped_tokens;
  }
  std::string text = fmt::format("  load {:.2f}", load);
  if (const auto loss = mean_balance_loss(layers)) text += fmt::format("  balance {:.3f}", *loss);
  if (dead > 0) text += fmt::format("  dead {}", dead);
  if (dropped > 0) text += fmt::format("  dropped {}", format_count(static_cast<double>(dropped)));
  return text;
}

std::string describe_rate(double tokens_per_second, std::int64_t devices) {
  std::string text = fmt::format("  {} tok/s", format_count(tokens_per_second));
  if (devices > 1) {
    text += fmt::format(" ({}/device)", format_count(tokens_per_second / static_cast<double>(devices)));
  }
  return text;
}

// "  mtp 2.3104, 2.9127": by depth.
std::string describe_mtp(const std::vector<std::optional<double>>& losses) {
  std::string text;
  for (const auto& loss : losses) {
    text += (text.empty() ? "  mtp " : ", ") + (loss ? fmt::format("{:.4f}", *loss) : "no target");
  }
  return text;
}

std::string describe(const MtpFigures& mtp) {
  std::string text = describe_mtp(mtp.losses);
  if (mtp.acceptance) text += fmt::format("  accepted {:.1f} %", 100 * *mtp.acceptance);
  return text;
}

}  // namespace

std::string console_line(const StepMetrics& m) {
  const std::string total = fmt::format("{}", m.total_steps);
  std::string line = fmt::format("step {:>{}}/{}", m.step, total.size(), total);
  if (m.loss) line += fmt::format("  loss {:.4f}", *m.loss);
  line += describe_mtp(m.mtp_losses);
  line += fmt::format("  lr {:.2e}  norm {:.3f}", m.lr, m.grad_norm);
  if (m.skipped) line += m.spike ? "  SKIPPED: SPIKE" : m.loss ? "  SKIPPED" : "  SKIPPED: NO TARGET";
  if (m.tokens_per_second) line += describe_rate(*m.tokens_per_second, m.devices);
  if (m.mfu) line += fmt::format("  MFU {:.1f} %", 100 * *m.mfu);
  if (m.mtp_mfu) line += fmt::format(" + {:.1f} % MTP", 100 * *m.mtp_mfu);
  constexpr double kSlow = 1.2;  // over the mean: worth a look
  if (m.ranks && m.ranks->max > kSlow * m.ranks->mean) {
    line +=
        fmt::format("  rank {} slow (+{:.0f} %)", m.ranks->slowest, 100 * (m.ranks->max / m.ranks->mean - 1));
  }
  if (!m.layers.empty()) line += describe_load(m.layers);
  line += fmt::format("  {} device-h", format_device_hours(m.device_seconds));
  if (m.cost) line += fmt::format("  {}", format_money(*m.cost, m.currency));
  return line + fmt::format("  ETA {}", format_duration(m.eta_seconds));
}

std::string console_line(const ValidationMetrics& m) {
  const auto figures = [](std::optional<double> loss, std::optional<double> bits_per_byte) {
    std::string text = loss ? fmt::format("loss {:.4f}", *loss) : "no target";
    if (bits_per_byte) text += fmt::format("  {:.4f} bits per byte", *bits_per_byte);
    return text;
  };
  std::string line =
      fmt::format("validation at step {}  {}{}", m.step, figures(m.loss, m.bits_per_byte), describe(m.mtp));
  for (const SourceLoss& source : m.sources) {
    if (m.sources.size() == 1 || source.samples == 0) continue;
    line += fmt::format("\n  {:5.1f} % {}  {}{}", 100 * source.share, source.name,
                        figures(source.loss, source.bits_per_byte), describe(source.mtp));
  }
  return line;
}

}  // namespace jevons
