#include "data/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <unordered_map>

#include "data/token_file.h"

namespace jevons {
namespace {

constexpr std::int64_t kAnyId = std::int64_t{1} << 31;
constexpr std::size_t kMostCommon = 10;

// Ids below 2^16 are counted in a table; the few larger ones that a big vocabulary has in a map.
class Histogram {
 public:
  void add(std::span<const std::int32_t> ids) {
    for (const std::int32_t id : ids) {
      if (static_cast<std::size_t>(id) < low_.size()) {
        ++low_[static_cast<std::size_t>(id)];
      } else {
        ++high_[id];
      }
    }
  }
  // Ids that occur, ascending.
  std::vector<TokenCount> counts() const {
    std::vector<TokenCount> all;
    for (std::size_t id = 0; id < low_.size(); ++id)
      if (low_[id] > 0) all.push_back({static_cast<std::int32_t>(id), low_[id]});
    for (const auto& [id, count] : high_) all.push_back({id, count});
    std::sort(all.begin(), all.end(), [](TokenCount a, TokenCount b) { return a.id < b.id; });
    return all;
  }

 private:
  std::vector<std::int64_t> low_ = std::vector<std::int64_t>(1 << 16);
  std::unordered_map<std::int32_t, std::int64_t> high_;
};

void count_ids(const TokenFile& file, InspectReport& report) {
  Histogram histogram;
  std::vector<std::int32_t> ids(1 << 16);
  for (std::int64_t at = 0; at < file.num_tokens(); at += static_cast<std::int64_t>(ids.size())) {
    ids.resize(std::min(ids.size(), static_cast<std::size_t>(file.num_tokens() - at)));
    file.read(at, ids, kAnyId);
    histogram.add(ids);
  }
  std::vector<TokenCount> counts = histogram.counts();
  if (counts.empty()) return;
  report.smallest_id = counts.front().id;
  report.largest_id = counts.back().id;
  report.distinct_ids = static_cast<std::int64_t>(counts.size());
  for (const TokenCount c : counts) {
    const double share = static_cast<double>(c.count) / static_cast<double>(file.num_tokens());
    report.entropy_bits -= share * std::log2(share);
  }
  std::stable_sort(counts.begin(), counts.end(),
                   [](TokenCount a, TokenCount b) { return a.count > b.count; });
  counts.resize(std::min(counts.size(), kMostCommon));
  report.most_common = std::move(counts);
}

void measure_documents(const TokenIndex& index, InspectReport& report) {
  report.documents = index.num_documents();
  for (std::int64_t d = 0; d < index.num_documents(); ++d) {
    const std::int64_t length = index.document_begin(d + 1) - index.document_begin(d);
    report.shortest_document = d == 0 ? length : std::min(report.shortest_document, length);
    report.longest_document = std::max(report.longest_document, length);
  }
}

// The character of a byte id, escaped as in C where it does not print.
std::string printable(std::int32_t id) {
  if (id == '\n') return "\\n";
  if (id == '\t') return "\\t";
  if (id == '\\') return "\\\\";
  return id >= ' ' && id <= '~' ? std::string(1, static_cast<char>(id)) : fmt::format("\\x{:02x}", id);
}

}  // namespace

InspectReport inspect_tokens(const std::string& path, std::int64_t show_tokens) {
  const TokenFile file(path);
  InspectReport report;
  report.path = file.path();
  report.format = file.index() != nullptr ? "Megatron .bin/.idx" : "llm.c .bin";
  report.dtype = file.dtype();
  report.tokens = file.num_tokens();
  if (file.index() != nullptr) measure_documents(*file.index(), report);
  count_ids(file, report);
  report.hash = fmt::format("{:016x}", file.hash(TokenFile::HashDepth::kWhole));
  report.first_ids.resize(static_cast<std::size_t>(std::clamp<std::int64_t>(show_tokens, 0, report.tokens)));
  file.read(0, report.first_ids, kAnyId);
  return report;
}

std::string to_text(const InspectReport& r) {
  const bool text = r.dtype == TokenDType::kU8;
  std::string out = fmt::format("{}\n  format      {}, {}\n  tokens      {}\n", r.path, r.format,
                                name_of(r.dtype), r.tokens);
  if (r.documents > 0) {
    out += fmt::format("  documents   {}, {} to {} tokens, {:.1f} on average\n", r.documents,
                       r.shortest_document, r.longest_document,
                       static_cast<double>(r.tokens) / static_cast<double>(r.documents));
  } else {
    out += fmt::format("  documents   {}\n", r.documents == 0 ? "none" : "not recorded");
  }
  if (r.tokens > 0) {
    out +=
        fmt::format("  ids         {} to {}, {} distinct, {:.3f} bits per token by frequency\n  most common",
                    r.smallest_id, r.largest_id, r.distinct_ids, r.entropy_bits);
    for (const TokenCount c : r.most_common)
      out += fmt::format(" {} {:.1f}%", text ? fmt::format("'{}'", printable(c.id)) : std::to_string(c.id),
                         100.0 * static_cast<double>(c.count) / static_cast<double>(r.tokens));
    out += "\n";
  }
  out += fmt::format("  XXH3        {}\n", r.hash);
  if (r.first_ids.empty()) return out;
  out += "  begins with ";
  for (const std::int32_t id : r.first_ids) out += text ? printable(id) : fmt::format("{} ", id);
  return out + "\n";
}

}  // namespace jevons
