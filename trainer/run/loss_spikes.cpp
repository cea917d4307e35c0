#include "trainer/run/loss_spikes.h"

#include <cmath>
#include <limits>

namespace jevons {

double spike_limit(const TrainConfig& config, const std::vector<double>& window) {
  if (config.spike_zscore == 0 || std::ssize(window) < config.spike_window) {
    return std::numeric_limits<double>::infinity();
  }
  const auto n = static_cast<double>(window.size());
  double sum = 0, squares = 0;
  for (const double loss : window) sum += loss;
  const double mean = sum / n;
  for (const double loss : window) squares += (loss - mean) * (loss - mean);
  return mean + config.spike_zscore * std::sqrt(squares / n);
}

void remember_loss(const TrainConfig& config, double loss, std::vector<double>& window) {
  if (config.spike_zscore == 0) {
    window.clear();
    return;
  }
  window.push_back(loss);
  const auto surplus = std::ssize(window) - config.spike_window;
  if (surplus > 0) window.erase(window.begin(), window.begin() + surplus);
}

}  // namespace jevons
