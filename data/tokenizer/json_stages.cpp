#include "data/tokenizer/json_stages.h"

#include <charconv>
#include <functional>
#include <map>

#include "data/tokenizer/patterns.h"
#include "data/tokenizer/unicode.h"

namespace jevons {
namespace {

std::string type_of(const JsonNode& node) {
  return node.at("type").text();
}

[[noreturn]] void not_supported(const JsonNode& node, const std::string& what) {
  node.refused(fmt::format("{} is not supported", what));
}

// Calls visit for a node, or for each of the nodes that a Sequence of it has under `key`, at any depth.
void each_in_sequence(const JsonNode& node, const std::string& key,
                      const std::function<void(const JsonNode&)>& visit) {
  if (type_of(node) != "Sequence") return visit(node);
  const JsonNode list = node.at(key);
  for (std::size_t i = 0; i < list.size(); ++i) each_in_sequence(list[i], key, visit);
}

struct Pattern {
  std::string text;
  bool is_expression = false;
};

Pattern pattern_of(const JsonNode& node) {
  const JsonNode pattern = node.at("pattern");
  if (const auto text = pattern.find("String")) return {text->text(), false};
  if (const auto text = pattern.find("Regex")) return {text->text(), true};
  pattern.refused("expected \"String\" or \"Regex\"");
}

NormalizerStep normalizer_step(const JsonNode& node) {
  const std::string type = type_of(node);
  const std::map<std::string, NormalForm> forms = {
      {"NFC", NormalForm::kC}, {"NFD", NormalForm::kD}, {"NFKC", NormalForm::kKC}, {"NFKD", NormalForm::kKD}};
  if (const auto form = forms.find(type); form != forms.end()) return form->second;
  if (type == "Prepend") return PrependStep{node.at("prepend").text()};
  if (type != "Replace") not_supported(node, fmt::format("the normalizer {}", type));
  const Pattern pattern = pattern_of(node);
  if (pattern.text.empty()) node.refused("an empty pattern");
  const std::string content = node.at("content").text();
  if (!pattern.is_expression) return ReplaceStep{pattern.text, content};
  return ReplaceStep{Regex(pattern.text, node.place()), content};
}

SplitStage split_stage(const JsonNode& node) {
  const std::map<std::string, SplitBehavior> behaviors = {
      {"Isolated", SplitBehavior::kIsolated},
      {"Removed", SplitBehavior::kRemoved},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  const Pattern pattern = pattern_of(node);
  if (pattern.text.empty()) node.refused("an empty pattern");
  const std::string& name = node.at("behavior").text();
  const auto behavior = behaviors.find(name);
  if (behavior == behaviors.end()) not_supported(node, fmt::format("the behavior {}", name));
  return {pattern.is_expression ? Regex(pattern.text, node.place()) : Regex::literal(pattern.text),
          behavior->second, node.flag_or("invert", false) ? Matches::kInverted : Matches::kAsFound};
}

MetaspaceStage metaspace_stage(const JsonNode& node) {
  using Prepend = MetaspaceStage::Prepend;
  MetaspaceStage stage;
  if (const auto text = node.find("replacement")) stage.replacement = text->text();
  if (stage.replacement.empty()) node.refused("an empty replacement");
  const std::map<std::string, Prepend> schemes = {
      {"always", Prepend::kAlways}, {"first", Prepend::kFirst}, {"never", Prepend::kNever}};
  if (const auto scheme = node.find("prepend_scheme")) {
    const auto found = schemes.find(scheme->text());
    if (found == schemes.end()) not_supported(*scheme, scheme->text());
    stage.prepend = found->second;
  } else if (!node.flag_or("add_prefix_space", true)) {
    stage.prepend = Prepend::kNever;
  }
  stage.split = node.flag_or("split", true);
  return stage;
}

void add_stage(const JsonNode& node, PreTokenizer& result) {
  const std::string type = type_of(node);
  if (result.byte_level) not_supported(node, fmt::format("{} behind ByteLevel", type));
  if (type == "Split") {
    result.stages.emplace_back(split_stage(node));
  } else if (type == "Digits") {
    const bool single = node.flag_or("individual_digits", false);
    result.stages.emplace_back(
        SplitStage{Regex(std::string(single ? kDigitPattern : kDigitsPattern), node.place())});
  } else if (type == "Metaspace") {
    if (!result.stages.empty()) not_supported(node, "Metaspace behind another stage");
    result.stages.emplace_back(metaspace_stage(node));
  } else if (type == "ByteLevel") {
    result.byte_level = true;
    if (node.flag_or("add_prefix_space", true)) result.stages.emplace_back(BlankStage{});
    if (node.flag_or("use_regex", true))
      result.stages.emplace_back(SplitStage{Regex(std::string(kGpt2Pattern), node.place())});
  } else {
    not_supported(node, fmt::format("the pre-tokenizer {}", type));
  }
}

// The byte of "<0x0A>".
std::optional<char> byte_token(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(value);
}

void replace_all(std::string& text, const std::string& pattern, const std::string& content) {
  for (std::size_t at = 0; (at = text.find(pattern, at)) != std::string::npos; at += content.size())
    text.replace(at, pattern.size(), content);
}

void add_decoder(const JsonNode& node, bool& fused, Decoding& result) {
  const std::string type = type_of(node);
  if (fused && type != "Strip") not_supported(node, fmt::format("the decoder {} behind Fuse", type));
  if (type == "ByteLevel") {
    result.steps.push_back({Decoding::Step::kByteLevel, "", ""});
  } else if (type == "ByteFallback") {
    result.steps.push_back({Decoding::Step::kByteFallback, "", ""});
  } else if (type == "Fuse") {
    fused = true;
  } else if (type == "Replace") {
    const Pattern pattern = pattern_of(node);
    if (pattern.is_expression || pattern.text.empty()) not_supported(node, "an expression in a decoder");
    result.steps.push_back({Decoding::Step::kReplace, pattern.text, node.at("content").text()});
  } else if (type == "Metaspace") {
    const MetaspaceStage space = metaspace_stage(node);
    result.steps.push_back({Decoding::Step::kReplace, space.replacement, " "});
    if (space.prepend != MetaspaceStage::Prepend::kNever) result.strip_blanks = 1;
  } else if (type == "Strip") {
    const auto number = [&](const char* key) {
      const auto found = node.find(key);
      return found ? found->id() : 0;
    };
    if (!fused || number("stop") != 0 || node.at("content").text() != " ")
      not_supported(node, "the decoder Strip but for blanks at the beginning, behind Fuse,");
    result.strip_blanks = static_cast<std::size_t>(number("start"));
  } else {
    not_supported(node, fmt::format("the decoder {}", type));
  }
}

}  // namespace

Normalizer read_normalizer(const JsonNode& root) {
  std::vector<NormalizerStep> steps;
  if (const auto node = root.find("normalizer")) {
    each_in_sequence(*node, "normalizers",
                     [&](const JsonNode& step) { steps.push_back(normalizer_step(step)); });
  }
  return Normalizer(std::move(steps));
}

PreTokenizer read_pre_tokenizer(const JsonNode& root) {
  PreTokenizer result;
  if (const auto node = root.find("pre_tokenizer"))
    each_in_sequence(*node, "pretokenizers", [&](const JsonNode& stage) { add_stage(stage, result); });
  return result;
}

Decoding read_decoder(const JsonNode& root, const PreTokenizer& pre_tokenizer) {
  Decoding result;
  bool fused = false;
  if (const auto node = root.find("decoder")) {
    each_in_sequence(*node, "decoders", [&](const JsonNode& step) { add_decoder(step, fused, result); });
  } else if (pre_tokenizer.byte_level) {
    result.steps.push_back({Decoding::Step::kByteLevel, "", ""});
  }
  return result;
}

std::string Decoding::bytes_of(const std::string& token) const {
  std::string text = token;
  for (const Replacement& r : steps) {
    if (r.step == Step::kByteLevel) {
      text = bytes_of_alphabet(text).value_or(text);
    } else if (r.step == Step::kReplace) {
      replace_all(text, r.pattern, r.content);
    } else if (const auto byte = byte_token(text)) {
      // Nothing that follows concerns a single byte.
      return std::string(1, *byte);
    }
  }
  return text;
}

}  // namespace jevons
