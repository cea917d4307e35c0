#include "parallel/host_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <utility>

namespace jevons {

std::vector<std::string> gather_texts(Communicator& world, const std::string& text) {
  const auto ranks = static_cast<std::size_t>(world.size());
  std::int64_t length = std::ssize(text);
  std::vector<std::int64_t> lengths(ranks);
  world
      .all_gather({&length, {1}, DType::kI64, Device::kCpu},
                  {lengths.data(), {world.size()}, DType::kI64, Device::kCpu})
      .wait();
  const std::int64_t longest = std::max<std::int64_t>(std::ranges::max(lengths), 1);
  const auto width = static_cast<std::size_t>(longest);
  std::string mine = text, all(width * ranks, '\0');
  mine.resize(width);
  world
      .all_gather({mine.data(), {longest}, DType::kU8, Device::kCpu},
                  {all.data(), {longest * world.size()}, DType::kU8, Device::kCpu})
      .wait();
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < ranks; ++r)
    texts.push_back(all.substr(r * width, static_cast<std::size_t>(lengths[r])));
  return texts;
}

std::string list_ranks(const std::vector<int>& ranks) {
  std::string text;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (!text.empty()) text += ", ";
    text += last == i ? fmt::format("{}", ranks[i]) : fmt::format("{}-{}", ranks[i], ranks[last]);
    i = last + 1;
  }
  return (ranks.size() == 1 ? "rank " : "ranks ") + text;
}

std::string list_hosts(const std::vector<std::string>& hosts) {
  constexpr std::size_t kMost = 8;
  std::vector<std::pair<std::string, std::vector<int>>> by_host;
  for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
    auto found = std::ranges::find(by_host, hosts[rank], &std::pair<std::string, std::vector<int>>::first);
    if (found == by_host.end()) found = by_host.insert(found, {hosts[rank], {}});
    found->second.push_back(static_cast<int>(rank));
  }
  std::vector<std::string> named;
  for (const auto& [host, ranks] : by_host) {
    if (named.size() == kMost) {
      named.push_back(fmt::format("{} others", by_host.size() - kMost));
      break;
    }
    named.push_back(fmt::format("{} ({})", host, list_ranks(ranks)));
  }
  if (named.size() == 1) return named.front();
  return fmt::format("{} and {}", fmt::join(named.begin(), named.end() - 1, ", "), named.back());
}

}  // namespace jevons
