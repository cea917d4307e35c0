// What reading a configuration gathers: every mistake, so that a user sees all of them at once, and for every
// option that was given the place where it was given last.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace jevons {

// A position in a file, or, with line 0, a source as a whole: a file, "command line".
struct Place {
  std::string source;
  int line = 0, column = 0;       // from 1
  std::string to_string() const;  // "run.yaml:3:5"
};

class Findings {
 public:
  void add(const Place& place, const std::string& message);
  bool empty() const { return messages_.empty(); }
  // Throws Error(kUsage) with one mistake a line, "place: message"; after kMaxShown lines the rest is counted
  // only.
  void throw_if_any() const;

  void given(const std::string& key, const Place& place) { places_[key] = place; }
  // Another list replaces list `key`: its elements' options were not given any more.
  void forget_inside(const std::string& key);
  bool was_given(const std::string& key) const { return places_.contains(key); }
  // Where `key` was given; `otherwise` for an option that keeps its default.
  Place place_of(const std::string& key, const Place& otherwise) const;

 private:
  static constexpr std::size_t kMaxShown = 20;
  std::vector<std::string> messages_;
  std::map<std::string, Place> places_;
};

}  // namespace jevons
