#include "trainer/config/prices.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <set>

#include "kernels/core/error.h"
#include "prices.pb.h"
#include "trainer/config/dates.h"
#include "trainer/config/yaml_tree.h"
#include "trainer/config/yaml_walker.h"

namespace jevons {
namespace {

// "NVIDIA A100-SXM4-80GB" has the words a100, 80gb, nvidia, sxm4.
std::set<std::string> words_of(const std::string& text) {
  std::set<std::string> words;
  std::string word;
  for (const char c : text + " ") {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!word.empty()) {
      words.insert(std::exchange(word, ""));
    }
  }
  return words;
}

std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) fail(ExitCode::kUsage, "{}: cannot read the price list (cost.prices)", path);
  return text;
}

}  // namespace

std::vector<Price> read_prices(const std::string& path) {
  const std::string text = slurp(path);
  Findings findings(path);
  schema::PriceList list;
  YamlWalker walker(list, findings);
  const std::optional<YamlNode> root = parse_yaml({text, path}, findings);
  if (root) {
    walker.walk_root(*root);
    walker.require_all({path});
  }
  std::vector<Price> prices;
  for (int i = 0; i < list.prices_size(); ++i) {
    const schema::Price& price = list.prices(i);
    const std::string key = fmt::format("prices.{}.", i);
    const std::optional<double> since = parse_day(price.since());
    if (!since && !price.since().empty()) {
      findings.add_for(key + "since", fmt::format("{}since: \"{}\" is not a day as 2026-05-01", key,
                                                  printable(price.since())));
    }
    if (words_of(price.device()).empty() && !price.device().empty()) {
      findings.add_for(key + "device", key + "device names no device");
    }
    prices.push_back({price.device(), price.since(), since.value_or(0), price.per_device_hour(),
                      price.currency(), price.source()});
  }
  findings.throw_if_any();
  return prices;
}

std::optional<Price> find_price(const std::vector<Price>& prices, const std::string& device_type,
                                double time) {
  const std::set<std::string> type = words_of(device_type);
  std::optional<Price> best;
  std::size_t best_words = 0;
  for (const Price& price : prices) {
    const std::set<std::string> words = words_of(price.device);
    if (price.since_time > time || !std::includes(type.begin(), type.end(), words.begin(), words.end())) {
      continue;
    }
    const bool better = !best || words.size() > best_words ||
                        (words.size() == best_words && price.since_time >= best->since_time);
    if (better) best = price, best_words = words.size();
  }
  return best;
}

void resolve_price(CostConfig& cost, const std::string& device_type, double time) {
  if (cost.price_per_device_hour >= 0) {
    cost.price_source = "cost.price_per_device_hour";
    return;
  }
  if (cost.prices.empty()) return;
  const std::optional<Price> price = find_price(read_prices(cost.prices), device_type, time);
  if (!price) return;
  cost.price_per_device_hour = price->per_device_hour;
  cost.currency = price->currency;
  cost.price_source = fmt::format("{}: {} since {}", cost.prices, price->device, price->since);
}

}  // namespace jevons
