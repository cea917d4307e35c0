// Types of other programs' files, and weights scaled in blocks, against plain loops.
#include "trainer/hf/elements.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/core/memory.h"
#include "kernels/core/rng.h"
#include "tests/hf/folder_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/hf/hf_source.h"

namespace jevons::test {
namespace {

// A box of a source, in fp32.
std::vector<float> read_box(const TensorSource& source, const std::string& name, Shape shape,
                            std::vector<std::int64_t> offset, Shape extent) {
  const Buffer memory(Device::kCpu, static_cast<std::size_t>(extent.numel()) * sizeof(float));
  const Tensor local = memory.view(0, extent, DType::kF32);
  source.read({{name, shape, std::move(offset), local}});
  return {local.span<float>().begin(), local.span<float>().end()};
}

// A llama whose layer-0 query matrix (heads * head_dim, hidden) has these sizes and this type.
struct OddModel {
  std::int64_t rows, cols;
  std::string config;
  FolderTensors tensors;

  OddModel(std::int64_t heads, std::int64_t hidden, const std::string& more) : rows(heads * 4), cols(hidden) {
    config = fmt::format(
        R"({{"model_type":"llama","vocab_size":8,"hidden_size":{},"num_hidden_layers":1,"num_attention_heads":{},
            "num_key_value_heads":{},"head_dim":4,"intermediate_size":4{}}})",
        hidden, heads, heads, more);
    const HfConfig parsed = parse_hf_config(config, "c");
    for (const WeightPlace& place : weight_places(parsed.family, parsed.model)) {
      const auto dims = place.shape.dims();
      const std::vector<float> zeros(static_cast<std::size_t>(place.shape.numel()));
      tensors[place.hf_name] = {"F32", {dims.begin(), dims.end()}, bytes_of(zeros)};
    }
  }
  FolderTensor& query() { return tensors["model.layers.0.self_attn.q_proj.weight"]; }
  HfSource open(const std::string& directory, std::size_t files = 1) const {
    write_folder(directory, config, tensors, files);
    return {directory, parse_hf_config(config, "c")};
  }
};

constexpr const char* kFp8 =
    R"(,"quantization_config":{"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic","weight_block_size":[128,128]})";
constexpr const char* kQuery = "layers.0.attn.q";
constexpr const char* kScale = "model.layers.0.self_attn.q_proj.weight_scale_inv";

// Random E4M3 that is no NaN, and what each stands for by the format's own words.
struct Quantised {
  std::string bytes;
  std::vector<double> values;
};
Quantised random_e4m3(std::int64_t count) {
  const RandomStream random(3, "e4m3");
  Quantised made;
  for (std::int64_t i = 0; i < count; ++i) {
    auto bits = static_cast<unsigned>(random.below(static_cast<std::uint64_t>(i), 256));
    if ((bits & 0x7f) == 0x7f) bits ^= 1;
    const int exponent = static_cast<int>(bits >> 3 & 15), mantissa = static_cast<int>(bits & 7);
    const double size = exponent == 0 ? std::pow(2.0, -6) * mantissa / 8.0
                                      : std::pow(2.0, exponent - 7) * (1 + mantissa / 8.0);
    made.bytes += static_cast<char>(bits);
    made.values.push_back(bits >= 128 ? -size : size);
  }
  return made;
}

}  // namespace

TEST_CASE("elements: E4M3 at its corners") {
  CHECK(from_e4m3(0x00) == 0);
  CHECK(std::signbit(from_e4m3(0x80)));
  CHECK(from_e4m3(0x01) == std::ldexp(1.0F, -9));  // smallest subnormal
  CHECK(from_e4m3(0x07) == std::ldexp(7.0F, -9));
  CHECK(from_e4m3(0x08) == std::ldexp(1.0F, -6));  // smallest normal
  CHECK(from_e4m3(0x38) == 1);
  CHECK(from_e4m3(0xb9) == -1.125F);
  CHECK(from_e4m3(0x7e) == 448);
  CHECK(from_e4m3(0x78) == 256);  // the exponent of all ones is a number
  CHECK(std::isnan(from_e4m3(0x7f)));
  CHECK(std::isnan(from_e4m3(0xff)));
}

TEST_CASE("elements: F16 at its corners and in order") {
  CHECK(from_half(0x3c00) == 1);
  CHECK(from_half(0xc000) == -2);
  CHECK(from_half(0x0001) == std::ldexp(1.0F, -24));
  CHECK(from_half(0x0400) == std::ldexp(1.0F, -14));
  CHECK(from_half(0x7bff) == 65504);
  CHECK(from_half(0x3555) == Approx(1.0 / 3).epsilon(1e-3));
  CHECK(from_half(0xfc00) == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(from_half(0x7e00)));
  for (std::uint16_t bits = 1; bits < 0x7c00; ++bits) {
    if (!(from_half(bits) > from_half(static_cast<std::uint16_t>(bits - 1)))) FAIL("at " << bits);
  }
}

TEST_CASE("source: weights in F16 and BF16 are read exactly, by any box") {
  const Scratch scratch;
  OddModel model(6, 20, "");
  for (const std::string type : {"F16", "BF16"}) {
    std::string bytes;
    std::vector<float> expected;
    for (std::int64_t i = 0; i < model.rows * model.cols; ++i) {
      const auto bits = static_cast<std::uint16_t>(i * 61 % 0x7b00);
      bytes += {static_cast<char>(bits & 0xff), static_cast<char>(bits >> 8)};
      const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
      float value = 0;
      std::memcpy(&value, &wide, sizeof value);
      expected.push_back(type == "F16" ? from_half(bits) : value);
    }
    model.query() = {type, {model.rows, model.cols}, bytes};
    const HfSource source = model.open(scratch.path(type));
    const Shape whole{model.rows, model.cols};
    CHECK(read_box(source, kQuery, whole, {0, 0}, whole) == expected);
    for (const auto& [row, col, rows, cols] :
         {std::array{3, 0, 5, 20}, std::array{0, 17, 24, 3}, std::array{23, 4, 1, 15}}) {
      const std::vector<float> part = read_box(source, kQuery, whole, {row, col}, {rows, cols});
      for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < cols; ++c) {
          const auto at = static_cast<std::size_t>((row + r) * model.cols + col + c);
          CHECK(part[static_cast<std::size_t>(r * cols + c)] == expected[at]);
        }
      }
    }
  }
}

TEST_CASE("source: E4M3 times the scale of its block, where the last blocks are short") {
  const Scratch scratch;
  for (const auto& [heads, hidden] :
       {std::array{50, 300}, std::array{32, 128}, std::array{144, 130}, std::array{1, 1}}) {
    OddModel model(heads, hidden, kFp8);
    const std::int64_t block_rows = (model.rows + 127) / 128, block_cols = (model.cols + 127) / 128;
    const Quantised q = random_e4m3(model.rows * model.cols);
    std::vector<float> scales;
    for (std::int64_t i = 0; i < block_rows * block_cols; ++i)
      scales.push_back(0.01F * static_cast<float>(i + 1));
    model.query() = {"F8_E4M3", {model.rows, model.cols}, q.bytes};
    model.tensors[kScale] = {"F32", {block_rows, block_cols}, bytes_of(scales)};
    // The scales in another file than the weights.
    const HfSource source = model.open(scratch.path(fmt::format("{}-{}", heads, hidden)), 3);
    const Shape whole{model.rows, model.cols};
    const std::vector<float> read = read_box(source, kQuery, whole, {0, 0}, whole);
    std::vector<float> expected;
    for (std::int64_t r = 0; r < model.rows; ++r) {
      for (std::int64_t c = 0; c < model.cols; ++c) {
        const float scale = scales[static_cast<std::size_t>(r / 128 * block_cols + c / 128)];
        expected.push_back(static_cast<float>(q.values[static_cast<std::size_t>(r * model.cols + c)]) *
                           scale);
      }
    }
    CHECK(read == expected);
    const std::int64_t half = model.cols / 2, part_cols = model.cols - half;
    const std::vector<float> right = read_box(source, kQuery, whole, {model.rows - 1, half}, {1, part_cols});
    CHECK(right == std::vector<float>(expected.end() - part_cols, expected.end()));
  }
}

TEST_CASE("source: scales that do not fit, are missing, or are no numbers") {
  const Scratch scratch;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto message_of = [&](auto change) {
    OddModel model(50, 300, kFp8);
    model.query() = {"F8_E4M3", {200, 300}, random_e4m3(200 * 300).bytes};
    model.tensors[kScale] = {"F32", {2, 3}, bytes_of(std::vector<float>(6, 1.0F))};
    change(model);
    ExitCode code = ExitCode::kOk;
    const std::string message = error_of(
        [&] {
          const HfSource source = model.open(scratch.path("damaged"));
          read_box(source, kQuery, {200, 300}, {0, 0}, {200, 300});
        },
        &code);
    CHECK(code == ExitCode::kData);
    CHECK(message.find("q_proj") != std::string::npos);
    CHECK(message.find("model.safetensors") != std::string::npos);
    return message;
  };
  using Catch::Matchers::ContainsSubstring;
  CHECK_THAT(message_of([](OddModel& m) { m.tensors.erase(kScale); }), ContainsSubstring("has no scales"));
  CHECK_THAT(message_of([](OddModel& m) {
               m.tensors[kScale] = {"F32", {3, 2}, bytes_of(std::vector<float>(6))};
             }),
             ContainsSubstring("(2, 3)"));
  CHECK_THAT(message_of([&](OddModel& m) {
               m.tensors[kScale].bytes = bytes_of({1, 1, 1, 1, nan, 1});
             }),
             ContainsSubstring("block (1, 1) is nan"));
  CHECK_THAT(message_of([](OddModel& m) { m.query().bytes[301] = '\x7f'; }),
             ContainsSubstring("row 1, column 1 is nan"));
  CHECK_THAT(message_of([](OddModel& m) {
               m.query() = {"F32", {200, 300}, std::string(240000, '\0')};
             }),
             ContainsSubstring("takes no scales"));
}

}  // namespace jevons::test
