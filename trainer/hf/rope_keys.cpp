#include "trainer/hf/rope_keys.h"

#include <array>
#include <string_view>
#include <utility>

#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr const char* kOriginal = "original_max_position_embeddings";
constexpr std::array<std::pair<RopeScaling, std::string_view>, 4> kTypes = {
    {{RopeScaling::kLinear, "linear"},
     {RopeScaling::kDynamic, "dynamic"},
     {RopeScaling::kLlama3, "llama3"},
     {RopeScaling::kYarn, "yarn"}}};

RopeScaling scaling_of(KeyReader& keys) {
  const std::optional<std::string> type = keys.text("rope_type"), old = keys.text("type");
  if (type && old && *type != *old) keys.refuse("rope_type", "the key type says another one");
  if (!type && !old) return RopeScaling::kNone;
  const std::string& name = type ? *type : *old;
  if (name == "default") return RopeScaling::kNone;
  for (const auto& [scaling, known] : kTypes) {
    if (known == name) return scaling;
  }
  keys.refuse(type ? "rope_type" : "type", "positions of this type are not computed here");
}

double required(KeyReader& keys, const std::string& key) {
  const std::optional<double> value = keys.number(key);
  if (!value) fail(ExitCode::kData, "{}: {} is missing", keys.where(), key);
  return *value;
}

void read_yarn(KeyReader& keys, RopeConfig& rope) {
  // 0 stands for the default, as null does.
  const auto given = [&](const char* key, double& value) {
    if (const double read = keys.number(key).value_or(0); read != 0) value = read;
  };
  given("beta_fast", rope.beta_fast);
  given("beta_slow", rope.beta_slow);
  given("mscale", rope.mscale);
  given("mscale_all_dim", rope.mscale_all_dim);
  given("attention_factor", rope.attention_factor);
  rope.truncate = keys.boolean("truncate").value_or(true);
}

// The object that holds everything, or what stands beside the theta.
void read_object(KeyReader& keys, std::optional<std::int64_t> original, std::int64_t longest,
                 RopeConfig& rope) {
  if (const std::optional<double> theta = keys.number("rope_theta")) rope.theta = *theta;
  if (keys.number("partial_rotary_factor").value_or(1) != 1) {
    keys.refuse("partial_rotary_factor", "every dim of a head is rotated here");
  }
  rope.scaling = scaling_of(keys);
  if (rope.scaling == RopeScaling::kNone) return;
  rope.factor = required(keys, "factor");
  if (rope.factor < 1) keys.refuse("factor", "it must be at least 1");
  const std::int64_t inside = keys.size_or(kOriginal, longest);
  if (rope.scaling == RopeScaling::kLinear) return;
  rope.original_seq_len = rope.scaling == RopeScaling::kDynamic ? longest : original.value_or(inside);
  if (rope.scaling == RopeScaling::kYarn) read_yarn(keys, rope);
  if (rope.scaling != RopeScaling::kLlama3) return;
  rope.low_freq_factor = required(keys, "low_freq_factor");
  rope.high_freq_factor = required(keys, "high_freq_factor");
}

}  // namespace

void read_rope(KeyReader& keys, double default_theta, ModelConfig& model) {
  model.rope.theta = keys.number("rope_theta").value_or(default_theta);
  const nlohmann::json* scaling = keys.object("rope_scaling");
  const nlohmann::json* parameters = keys.object("rope_parameters");
  std::optional<std::int64_t> original;
  if (keys.integer(kOriginal)) original = keys.size(kOriginal);
  if (keys.number("partial_rotary_factor").value_or(1) != 1) {
    keys.refuse("partial_rotary_factor", "every dim of a head is rotated here");
  }
  const bool by_scaling = scaling != nullptr && !scaling->empty();  // transformers 5 prefers it
  const nlohmann::json* object = by_scaling ? scaling : parameters;
  if (object == nullptr) return;
  KeyReader inner(*object, keys.where() + (by_scaling ? ": rope_scaling" : ": rope_parameters"));
  read_object(inner, original, model.seq_len, model.rope);
  for (const std::string& key : inner.not_asked_for()) {
    if ((*object)[key].is_object()) inner.refuse(key, "positions that differ by layer are not computed here");
  }
}

void write_rope(const RopeConfig& rope, nlohmann::ordered_json& config) {
  config["rope_theta"] = rope.theta;
  config["rope_scaling"] = nullptr;
  if (rope.scaling == RopeScaling::kNone) return;
  nlohmann::ordered_json scaling;
  for (const auto& [known, name] : kTypes) {
    if (known == rope.scaling) scaling["rope_type"] = name;
  }
  scaling["factor"] = rope.factor;
  if (rope.scaling == RopeScaling::kLlama3 || rope.scaling == RopeScaling::kYarn) {
    scaling[kOriginal] = rope.original_seq_len;
  }
  if (rope.scaling == RopeScaling::kLlama3) {
    scaling["low_freq_factor"] = rope.low_freq_factor;
    scaling["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.scaling == RopeScaling::kYarn) {
    scaling["beta_fast"] = rope.beta_fast;
    scaling["beta_slow"] = rope.beta_slow;
    scaling["truncate"] = rope.truncate;
    const auto given = [&](const char* key, double value) {
      if (value != 0) scaling[key] = value;
    };
    given("mscale", rope.mscale);
    given("mscale_all_dim", rope.mscale_all_dim);
    given("attention_factor", rope.attention_factor);
  }
  config["rope_scaling"] = scaling;
}

}  // namespace jevons
