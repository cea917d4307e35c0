#include "trainer/report/run_metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>

namespace jevons {
namespace {

constexpr std::size_t kMostPoints = 1500;  // of a curve
constexpr std::size_t kMostColumns = 300;  // of the load over steps

using nlohmann::ordered_json;

constexpr std::array<const char*, kNumCurves> kCurveKeys = {"step",
                                                            "loss",
                                                            "lr",
                                                            "tokens_per_second",
                                                            "mfu",
                                                            "balance_loss",
                                                            "sequence_balance_loss",
                                                            "global_balance_loss",
                                                            "z_loss",
                                                            "max_rows"};

Point point_of(const ordered_json& line) {
  Point point;
  for (std::size_t c = 0; c < kNumCurves; ++c) {
    const auto value = line.find(kCurveKeys[c]);
    const bool known = value != line.end() && value->is_number();
    point.values[c] = known ? value->get<double>() : std::nan("");
  }
  for (const ordered_json& loss : line.value("mtp_losses", ordered_json::array())) {
    point.mtp_losses.push_back(loss.is_number() ? loss.get<double>() : std::nan(""));
  }
  const auto share = line.find("mtp_acceptance");
  point.mtp_acceptance = share != line.end() && share->is_number() ? share->get<double>() : std::nan("");
  return point;
}

// A layer without a figure makes that of the step unknown.
void add_layers(Point& point, const ordered_json& moe) {
  for (std::size_t c = kBalanceLoss; c < kNumCurves && !moe.empty(); ++c) {
    double sum = 0, most = 0;
    for (const ordered_json& layer : moe) {
      const auto value = layer.find(kCurveKeys[c]);
      const bool known = value != layer.end() && value->is_number();
      const double figure = known ? value->get<double>() : std::nan("");
      sum += figure, most = std::max(figure, most);
    }
    point.values[c] = c == kMaxRows && !std::isnan(sum) ? most : sum / static_cast<double>(moe.size());
  }
}

void add_step(RunMetrics& metrics, const ordered_json& line) {
  Point point = point_of(line);
  ordered_json experts = ordered_json::array();
  const ordered_json moe = line.value("moe", ordered_json::array());
  add_layers(point, moe);
  for (const ordered_json& layer : moe) {
    if (metrics.steps.empty()) metrics.moe_layers.push_back(layer.at("layer"));
    point.busiest.push_back(layer.at("max_over_mean").get<float>());
    if (layer.contains("load_percent")) experts.push_back(layer["load_percent"]);
  }
  if (!experts.empty())
    metrics.experts.push_back({{"step", line.at("step")}, {"layers", std::move(experts)}});
  metrics.steps.push_back(std::move(point));
}

void add_source(RunMetrics& metrics, const ordered_json& step, const ordered_json& source) {
  const auto same_name = [&](const ordered_json& known) { return known["name"] == source.at("name"); };
  auto curve = std::find_if(metrics.sources.begin(), metrics.sources.end(), same_name);
  if (curve == metrics.sources.end()) {
    metrics.sources.push_back(
        {{"name", source["name"]}, {"step", ordered_json::array()}, {"loss", ordered_json::array()}});
    curve = std::prev(metrics.sources.end());
  }
  (*curve)["step"].push_back(step);
  (*curve)["loss"].push_back(source.at("loss"));
}

}  // namespace

RunMetrics read_metrics(const std::string& path) {
  RunMetrics metrics;
  std::ifstream file(path);
  for (std::string text; std::getline(file, text);) {
    try {
      const ordered_json line = ordered_json::parse(text);
      const ordered_json& kind = line.at("kind");
      if (kind == "step") {
        add_step(metrics, line);
      } else if (kind == "validation") {
        metrics.validations.push_back(point_of(line));
        for (const ordered_json& source : line.value("sources", ordered_json::array()))
          add_source(metrics, line.at("step"), source);
      }
    } catch (const ordered_json::exception&) {
      ++metrics.unreadable;
    }
  }
  return metrics;
}

std::optional<double> known(const Point& point, Curve curve) {
  const double value = point.values[curve];
  return std::isnan(value) ? std::nullopt : std::optional(value);
}

std::vector<const Point*> thinned(const std::vector<Point>& points) {
  std::vector<const Point*> kept;
  const std::size_t stretch = points.size() <= kMostPoints ? 1 : 2 * points.size() / kMostPoints + 1;
  for (std::size_t begin = 0; begin < points.size(); begin += stretch) {
    const auto first = points.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = points.begin() + static_cast<std::ptrdiff_t>(std::min(points.size(), begin + stretch));
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const auto less = [](double unknown) {
      return [unknown](const Point& a, const Point& b) {
        return known(a, kLoss).value_or(unknown) < known(b, kLoss).value_or(unknown);
      };
    };
    const auto low = std::min_element(first, last, less(kInfinity));
    const auto high = std::max_element(first, last, less(-kInfinity));
    kept.push_back(&*std::min(low, high));
    if (low != high) kept.push_back(&*std::max(low, high));
  }
  if (!points.empty() && kept.back() != &points.back()) kept.push_back(&points.back());
  return kept;
}

ordered_json curves(const std::vector<const Point*>& points) {
  ordered_json table;
  for (std::size_t c = 0; c < kNumCurves; ++c) {
    ordered_json column = ordered_json::array();
    for (const Point* point : points) column.push_back(point->values[c]);
    table[kCurveKeys[c]] = std::move(column);
  }
  const std::size_t depths = points.empty() ? 0 : points.front()->mtp_losses.size();
  if (depths == 0) return table;
  for (std::size_t k = 0; k < depths; ++k) {
    ordered_json column = ordered_json::array();
    for (const Point* p : points)
      column.push_back(k < p->mtp_losses.size() ? p->mtp_losses[k] : std::nan(""));
    table[fmt::format("mtp_loss_{}", k)] = std::move(column);
  }
  for (const Point* point : points) table["mtp_acceptance"].push_back(point->mtp_acceptance);
  return table;
}

ordered_json load_over_steps(const RunMetrics& metrics) {
  if (metrics.moe_layers.empty()) return nullptr;
  ordered_json steps = ordered_json::array(), loads = ordered_json::array();
  const std::size_t stride = metrics.steps.size() / kMostColumns + 1;
  for (std::size_t i = 0; i < metrics.steps.size(); i += stride) {
    steps.push_back(metrics.steps[i].values[kStep]);
    loads.push_back(metrics.steps[i].busiest);
  }
  return {{"layers", metrics.moe_layers}, {"steps", steps}, {"max_over_mean", loads}};
}

}  // namespace jevons
