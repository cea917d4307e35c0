#include "tests/golden/numbers.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "kernels/core/error.h"

namespace jevons::test {
namespace {

constexpr const char* kHeader =
    "# Recorded numbers: losses and gradients of tiny runs, by engine, model and layout. Compared by "
    "test_golden;\n"
    "# written by scripts/record_golden, never by hand. docs/testing.md says when they may change.\n";

// Steps between two finite doubles of one sign; the largest number for others.
std::uint64_t ulps_between(double a, double b) {
  if (!std::isfinite(a) || !std::isfinite(b) || std::signbit(a) != std::signbit(b)) return UINT64_MAX;
  const auto x = std::bit_cast<std::uint64_t>(a), y = std::bit_cast<std::uint64_t>(b);
  return x > y ? x - y : y - x;
}

std::string change(double recorded, double now) {
  return fmt::format("{:.17g}, recorded {:.17g}: {} ulps, {:.1e} relative", now, recorded,
                     ulps_between(recorded, now), std::abs(now - recorded) / std::abs(recorded));
}

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), file_(path) {}

  std::vector<Section> read() {
    for (std::string line; std::getline(file_, line);) {
      ++line_;
      if (!line.empty() && line.front() != '#') take(line);
    }
    return std::move(sections_);
  }

 private:
  void take(const std::string& line) {
    const std::size_t space = line.find(' ');
    const std::string kind = line.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
    if (kind == "engine") {
      engine_ = rest;
    } else if (kind == "model") {
      sections_.push_back({engine_, rest, {}});
    } else {
      take_row(kind, rest);
    }
  }

  void take_row(const std::string& kind, const std::string& rest) {
    if (sections_.empty()) refuse();
    auto& layouts = sections_.back().layouts;
    std::istringstream words(rest);
    std::string what, cell;
    if (kind == "layout") {
      while (words >> cell) layouts.emplace_back(cell, Numbers());
      return;
    }
    words >> what;
    for (auto& [layout, numbers] : layouts) {
      if (!(words >> cell)) refuse();
      put(kind, what, cell, numbers);
    }
    if (words >> cell) refuse();
  }

  void put(const std::string& kind, const std::string& what, const std::string& cell, Numbers& numbers) {
    if (kind == "loss") {
      numbers.losses.push_back(number(cell));
    } else if (kind == "norm") {
      numbers.grad_norm = number(cell);
    } else if (kind == "validation") {
      numbers.validation = number(cell);
    } else if (kind == "gradient") {
      numbers.gradients[what] = cell;
    } else if (kind == "state") {
      numbers.state = cell;
    } else {
      refuse();
    }
  }

  double number(const std::string& cell) const {
    char* end = nullptr;
    const double value = std::strtod(cell.c_str(), &end);
    if (*end != '\0') refuse();
    return value;
  }

  [[noreturn]] void refuse() const {
    fail(ExitCode::kData, "{}:{}: not a line of recorded numbers", path_, line_);
  }

  std::string path_;
  std::ifstream file_;
  int line_ = 0;
  std::string engine_;
  std::vector<Section> sections_;
};

// `cell(numbers)` of every layout behind `label`.
template <class Cell>
std::string row(const std::string& label, const Section& section, Cell cell) {
  std::string text = fmt::format("{:<44}", label);
  for (const auto& [layout, numbers] : section.layouts) text += fmt::format(" {:>20}", cell(numbers));
  return text + "\n";
}

std::string to_text(const Section& s) {
  std::string text = fmt::format("\nengine {}\nmodel {}\n{:<44}", s.engine, s.model, "layout");
  for (const auto& [layout, numbers] : s.layouts) text += fmt::format(" {:>20}", layout);
  text += "\n";
  if (s.layouts.empty()) return text;
  const Numbers& first = s.layouts.front().second;
  const auto hex = [](double value) { return fmt::format("{:a}", value); };
  for (std::size_t i = 0; i < first.losses.size(); ++i) {
    text += row(fmt::format("loss {}", i + 1), s, [&](const Numbers& n) { return hex(n.losses[i]); });
  }
  text += row(fmt::format("validation {}", first.losses.size()), s,
              [&](const Numbers& n) { return hex(n.validation); });
  text += row(fmt::format("state {}", first.losses.size()), s, [](const Numbers& n) { return n.state; });
  text += row("norm 1", s, [&](const Numbers& n) { return hex(n.grad_norm); });
  for (const auto& gradient : first.gradients) {
    const std::string& name = gradient.first;
    text += row("gradient " + name, s, [&](const Numbers& n) { return n.gradients.at(name); });
  }
  return text;
}

std::string changed_gradients(const Numbers& recorded, const Numbers& now) {
  std::set<std::string> names;
  for (const auto& entry : recorded.gradients) names.insert(entry.first);
  for (const auto& entry : now.gradients) names.insert(entry.first);
  std::string changed, added, gone;
  int count = 0;
  for (const std::string& name : names) {
    const auto was = recorded.gradients.find(name), is = now.gradients.find(name);
    if (was == recorded.gradients.end()) {
      added += " " + name;
    } else if (is == now.gradients.end()) {
      gone += " " + name;
    } else if (was->second != is->second) {
      changed += " " + name, ++count;
    }
  }
  std::string text;
  if (!changed.empty())
    text += fmt::format("; {} of {} gradients of step 1 changed:{}", count, names.size(), changed);
  if (!added.empty()) text += "; gradients that are not recorded:" + added;
  if (!gone.empty()) text += "; gradients that are recorded and gone:" + gone;
  return text.empty() ? text : text.substr(2);
}

std::string changed_losses(const std::vector<double>& recorded, const std::vector<double>& now) {
  if (recorded.size() != now.size()) return fmt::format("{} steps, recorded {}", now.size(), recorded.size());
  std::size_t first = now.size(), count = 0;
  for (std::size_t i = now.size(); i-- > 0;) {
    if (std::bit_cast<std::uint64_t>(recorded[i]) != std::bit_cast<std::uint64_t>(now[i])) first = i, ++count;
  }
  if (count == 0) return "";
  std::string text = fmt::format("{} of {} losses changed; that of step {} is {}", count, now.size(),
                                 first + 1, change(recorded[first], now[first]));
  const std::size_t last = now.size() - 1;
  if (first != last && recorded[last] != now[last])
    text += fmt::format("; of step {} {}", last + 1, change(recorded[last], now[last]));
  return text;
}

}  // namespace

std::vector<Section> read_sections(const std::string& path) {
  return Reader(path).read();
}

void write_sections(const std::string& path, const std::vector<Section>& sections) {
  std::ofstream file(path);
  file << kHeader;
  for (const Section& section : sections) file << to_text(section);
  file.close();
  if (!file) fail(ExitCode::kFailure, "cannot write {}", path);
}

std::vector<std::string> differences(const Numbers& recorded, const Numbers& now) {
  std::vector<std::string> lines;
  const auto add = [&](const std::string& line) {
    if (!line.empty()) lines.push_back(line);
  };
  add(changed_losses(recorded.losses, now.losses));
  if (recorded.grad_norm != now.grad_norm)
    add("the gradient norm of step 1 is " + change(recorded.grad_norm, now.grad_norm));
  add(changed_gradients(recorded, now));
  if (recorded.validation != now.validation)
    add("the validation loss is " + change(recorded.validation, now.validation));
  if (recorded.state != now.state) add("weights, moments or selection biases after the last step changed");
  return lines;
}

}  // namespace jevons::test
