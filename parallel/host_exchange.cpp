#include "parallel/host_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace jevons {

std::string broadcast_text(Communicator& group, std::string text, int root) {
  text.resize(static_cast<std::size_t>(broadcast(group, std::ssize(text), root)));
  if (!text.empty()) group.broadcast(host_tensor(std::as_writable_bytes(std::span(text))), root).wait();
  return text;
}

std::vector<std::string> all_gather_texts(Communicator& group, const std::string& text) {
  std::int64_t length = std::ssize(text);
  const std::vector<std::int64_t> lengths = all_gather(group, std::span(&length, 1));
  const auto width = static_cast<std::size_t>(std::max<std::int64_t>(std::ranges::max(lengths), 1));
  std::string mine = text;
  mine.resize(width);
  const std::vector<std::byte> all = all_gather(group, std::as_writable_bytes(std::span(mine)));
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < lengths.size(); ++r) {
    texts.emplace_back(reinterpret_cast<const char*>(all.data()) + r * width, lengths[r]);
  }
  return texts;
}

std::vector<std::string> gather_texts(Communicator& group, std::string text) {
  std::int64_t length = std::ssize(text);
  const std::vector<std::int64_t> lengths = all_gather(group, std::span(&length, 1));
  const auto bytes = [](std::string& of) { return host_tensor(std::as_writable_bytes(std::span(of))); };
  if (group.rank() != 0) {
    group.send(bytes(text), 0).wait();
    return {};
  }
  std::vector<std::string> all = {std::move(text)};
  for (int rank = 1; rank < group.size(); ++rank) {
    std::string& theirs = all.emplace_back(lengths[static_cast<std::size_t>(rank)], '\0');
    group.recv(bytes(theirs), rank).wait();
  }
  return all;
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
