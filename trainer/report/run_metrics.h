// What a report takes from metrics.jsonl: curves over the steps and the validations, loads of experts. Such
// files can be larger than memory, so that only this much is kept.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace jevons {

// What a line of metrics.jsonl gives to the curves; NaN, which JSON shows as null, for what it lacks. Of the
// last five, which stand there by MoE layer, the mean over the layers, of max_rows the most.
enum Curve : std::size_t {
  kStep,
  kLoss,
  kLearningRate,
  kTokensPerSecond,
  kMfu,
  kBalanceLoss,
  kSequenceBalanceLoss,
  kGlobalBalanceLoss,
  kZLoss,
  kMaxRows,
  kNumCurves
};

struct Point {
  std::array<double, kNumCurves> values{};
  std::vector<float> busiest;      // by MoE layer: tokens of the busiest expert over the mean
  std::vector<double> mtp_losses;  // by depth of multi-token prediction
  double mtp_acceptance = 0;
};

struct RunMetrics {
  std::vector<Point> steps, validations;
  nlohmann::ordered_json sources =
      nlohmann::ordered_json::array();  // of the validation: {name, step: [...], loss: [...]}
  nlohmann::ordered_json moe_layers = nlohmann::ordered_json::array();  // numbers of the MoE layers
  nlohmann::ordered_json experts =
      nlohmann::ordered_json::array();  // {step, layers: [[per cent of the mean, ...], ...]}
  std::int64_t unreadable = 0;
};

RunMetrics read_metrics(const std::string& path);

// Nothing where a curve has no number.
std::optional<double> known(const Point& point, Curve curve);
// Of every stretch of neighbours the point with the lowest and the one with the highest loss, in order, and
// the last of all. Points of unknown loss stand for a stretch only if it has no others.
std::vector<const Point*> thinned(const std::vector<Point>& points);
// {"step": [...], "loss": [...]}: one list per curve. With multi-token prediction "mtp_loss_0" and so on by
// depth, and "mtp_acceptance".
nlohmann::ordered_json curves(const std::vector<const Point*>& points);
// Tokens of the busiest expert over the mean, for every MoE layer over the steps; null in a dense model.
nlohmann::ordered_json load_over_steps(const RunMetrics& metrics);

}  // namespace jevons
