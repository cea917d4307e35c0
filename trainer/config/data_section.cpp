#include "trainer/config/data_section.h"

#include <cmath>
#include <string>
#include <vector>

#include "data/blend.h"
#include "trainer/config/option.h"

namespace jevons {
namespace {

void check_sources(const std::string& list, const std::vector<DataSource>& sources, Rules& rules) {
  const auto by_size = [](const DataSource& source) { return source.weight == DataSource::kBySize; };
  const bool sized = std::any_of(sources.begin(), sources.end(), by_size);
  double sum = 0;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const DataSource& source = sources[i];
    const std::string element = fmt::format("{}.{}", list, i);
    const std::string path = element + ".path", weight = element + ".weight";
    rules.require(
        {path}, [&] { return !source.path.empty(); }, "{} is empty", path);
    // A number of tokens and a number that somebody chose have no common unit.
    rules.require(
        {weight}, [&] { return !sized || by_size(source); },
        "{} = {}, but other sources of {} have size; give size to all or to none", weight, source.weight,
        list);
    sum += source.weight;
  }
  rules.require(
      {list}, [&] { return std::isfinite(sum); }, "{}: the weights have no finite sum", list);
  rules.require(
      {list}, [&] { return sources.size() <= Blend::kMostSources; },
      "{}: {} sources; at most {}: a pattern makes many files one source", list, sources.size(),
      Blend::kMostSources);
}

}  // namespace

void carry(Bridge b, DataConfig& data) {
  const auto source = [](Bridge item, DataSource& each) {
    item("path", each.path);
    item("weight", each.weight);
  };
  b.list("train", data.train, source);
  b.list("validation", data.validation, source);
  b("validation_fraction", data.validation_fraction);
  b("seed", data.seed);
  b("document_mask", data.document_mask);
  b("allow_change", data.allow_change);
}

void check(const DataConfig& data, Rules& rules) {
  check_sources("data.train", data.train, rules);
  check_sources("data.validation", data.validation, rules);
}

}  // namespace jevons
