// The lists of pipeline schedules, against golden text, checksums and refusals.
#include "parallel/pipeline/schedule.h"

#include <fmt/core.h>
#include <zlib.h>

#include <array>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "tests/parallel/schedules.h"
#include "tests/support/catch.h"

namespace jevons {
namespace {

using namespace test;

std::string crc_of(const PipelineOptions& options) {
  const std::string text = to_text(generate_schedule(options));
  return fmt::format("{:08x}",
                     crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size())));
}

std::string refusal_of(const PipelineOptions& options) {
  try {
    generate_schedule(options);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kUsage);
    return error.what();
  }
  return "accepted";
}

// In the order of kKinds.
struct Row {
  int ranks;
  std::int64_t micro_batches;
  std::array<const char*, 5> crcs;
};

}  // namespace

TEST_CASE("the lists of 2 ranks and 4 micro-batches", "[schedule]") {
  const std::array<const char*, 5> golden = {
      "F0.0 F0.1 D0.0 F0.2 D0.1 F0.3 D0.2 D0.3\n"
      "F1.0 D1.0 F1.1 D1.1 F1.2 D1.2 F1.3 D1.3\n",
      "F0.0 F0.1 F2.0 F2.1 F0.2 D2.0 F0.3 D2.1 F2.2 D0.0 F2.3 D0.1 D2.2 D2.3 D0.2 D0.3\n"
      "F1.0 F1.1 F3.0 D3.0 F3.1 D3.1 F1.2 D1.0 F1.3 D1.1 F3.2 D3.2 F3.3 D3.3 D1.2 D1.3\n",
      "F0.0 F0.1 B0.0 W0.0 F0.2 B0.1 W0.1 F0.3 B0.2 W0.2 B0.3 W0.3\n"
      "F1.0 B1.0 F1.1 B1.1 W1.0 F1.2 B1.2 W1.1 F1.3 B1.3 W1.2 W1.3\n",
      "F0.0 F0.1 F0.2 F3.0 B3.0 W3.0 F3.1 B3.1 W3.1 F0.3 B0.0 W0.0 F3.2 B3.2 W3.2 B0.1 W0.1 F3.3 B3.3 W3.3 "
      "B0.2 W0.2 B0.3 W0.3\n"
      "F1.0 F2.0 F1.1 F2.1 B2.0 W2.0 F1.2 B1.0 W1.0 F2.2 B2.1 W2.1 F1.3 B1.1 W1.1 F2.3 B2.2 W2.2 B1.2 B2.3 "
      "B1.3 W1.2 W2.3 W1.3\n",
      "F0.0 F0.1 F0.2 F3.0 B3.0 W3.0 F3.1 (F0.3|D3.1) (F3.2|D0.0) D3.2 (F3.3|D0.1) D3.3 B0.2 W0.2 B0.3 W0.3\n"
      "F1.0 F2.0 F1.1 F2.1 F1.2 D2.0 (F2.2|D1.0) (F1.3|D2.1) (F2.3|D1.1) D2.2 D1.2 B2.3 B1.3 W2.3 W1.3\n"};
  for (std::size_t k = 0; k < kKinds.size(); ++k)
    CHECK(to_text(generate_schedule(options_of(kKinds[k], 2, 4))) == golden[k]);
}

// Made by another generator, in another language.
TEST_CASE("checksums of the lists", "[schedule]") {
  const std::vector<Row> rows = {{2, 4, {"a7bb9e46", "0a656ec7", "0c32e30d", "1ffaeac0", "7c1a8aa9"}},
                                 {2, 8, {"3a3a2364", "d875f8b8", "201616f1", "c706b208", "95cfc480"}},
                                 {3, 7, {"e57f1314", nullptr, "642c59a6", "80850894", "f3c02197"}},
                                 {4, 1, {"47ece219", "644927a8", "57a9e9ad", "59947351", nullptr}},
                                 {4, 3, {"6d1f4cc4", "0d3d6715", "a532272a", "c06e3ebe", nullptr}},
                                 {4, 6, {"46bef0a9", "73c6708a", "bf6cf09a", "6ba13a5b", nullptr}},
                                 {4, 8, {"2c258ed9", "5375cdd6", "25851315", "d865ce16", "d93ffb27"}},
                                 {4, 16, {"ca0588c8", "f7bd6c7a", "96aca85a", "cb967ad7", "35407c8e"}},
                                 {8, 16, {"b8298308", "5ef780d3", "28120f00", "0a925699", "6ab58fae"}},
                                 {8, 32, {"859b8dce", "7fefa74c", "8a914150", "668a33d2", "5caef058"}},
                                 {16, 32, {"9164aab3", "f6c2d0be", "4dee73f3", "a2b66966", "bdcc3a13"}},
                                 {16, 64, {"09b98038", "88199ce6", "10a02107", "6a9b4b5e", "96bbdc22"}}};
  for (const Row& row : rows) {
    for (std::size_t k = 0; k < kKinds.size(); ++k) {
      INFO(name_of(kKinds[k]) << " P " << row.ranks << " m " << row.micro_batches);
      const PipelineOptions options = options_of(kKinds[k], row.ranks, row.micro_batches);
      if (row.crcs[k] == nullptr) {
        CHECK(refusal_of(options) != "accepted");
      } else {
        CHECK(crc_of(options) == row.crcs[k]);
      }
    }
  }
  const auto pairs = [](int ranks, std::int64_t micro_batches) {
    return crc_of({PipelineKind::kInterleaved, ranks, micro_batches, 2, PipelineOverlap::kPairs});
  };
  CHECK(pairs(4, 8) == "728bd8a2");
  CHECK(pairs(8, 16) == "427e5136");
  CHECK(pairs(8, 32) == "5eb21341");
}

TEST_CASE("what a schedule cannot do is refused, with what would work", "[schedule]") {
  using Catch::Matchers::ContainsSubstring;
  const auto refusal = [](PipelineKind kind, int ranks, std::int64_t m, int v,
                          PipelineOverlap overlap = PipelineOverlap::kNone) {
    return refusal_of({kind, ranks, m, v, overlap});
  };
  using enum PipelineKind;
  CHECK_THAT(refusal(kInterleaved, 3, 7, 2), ContainsSubstring("7 micro-batches in 2 rounds") &&
                                                 ContainsSubstring("6 or 8 micro-batches would"));
  CHECK_THAT(refusal(kInterleaved, 4, 4, 2, PipelineOverlap::kPairs),
             ContainsSubstring("with pairs on 4 ranks needs 7 micro-batches or more, here are 4"));
  CHECK_THAT(refusal(kDualPipeV, 4, 7, 2), ContainsSubstring("needs 8 micro-batches or more") &&
                                               ContainsSubstring("here are 7") && ContainsSubstring("zb_v"));
  CHECK_THAT(refusal(kZbV, 4, 8, 1),
             ContainsSubstring("zb_v has the 2 stages of a V on each rank, here are 1"));
  CHECK_THAT(refusal(kDualPipeV, 4, 8, 4), ContainsSubstring("dualpipe_v has the 2 stages of a V"));
  CHECK_THAT(refusal(k1F1B, 4, 8, 2), ContainsSubstring("1f1b has 1 stage on each rank") &&
                                          ContainsSubstring("interleaved takes any number"));
  CHECK_THAT(refusal(kZbH1, 4, 8, 1, PipelineOverlap::kPairs),
             ContainsSubstring("zb_h1 with pairs: only interleaved"));
  CHECK_THAT(refusal(k1F1B, 0, 8, 1), ContainsSubstring("0 ranks"));
  CHECK_THAT(refusal(k1F1B, 4, 0, 1), ContainsSubstring("0 micro-batches"));
  CHECK_THAT(refusal(kInterleaved, 4, 4, 0), ContainsSubstring("0 virtual stages"));
  CHECK_THAT(refusal(k1F1B, 4, std::int64_t{1} << 62, 1), ContainsSubstring("more than 16777216 passes"));
}

TEST_CASE("schedules by name", "[schedule]") {
  for (const PipelineKind kind : kKinds) CHECK(pipeline_kind(name_of(kind)) == kind);
  CHECK_FALSE(pipeline_kind("gpipe"));
  CHECK(pipeline_kind_names() == "1f1b, interleaved, zb_h1, zb_v, dualpipe_v");
}

TEST_CASE("every stage lies on one rank, its chunk there", "[schedule]") {
  for (const PipelineShape& shape :
       {PipelineShape{4, 1, 8}, PipelineShape{3, 4, 8}, PipelineShape{4, 2, 8, StagePlacement::kV}}) {
    std::vector<int> seen(static_cast<std::size_t>(shape.stages()));
    for (int r = 0; r < shape.ranks; ++r) {
      for (int chunk = 0; chunk < shape.virtual_stages; ++chunk) {
        const std::int64_t stage = shape.stage_of(r, chunk);
        CHECK(shape.rank_of(stage) == r);
        ++seen.at(static_cast<std::size_t>(stage));
        if (chunk > 0) CHECK(stage > shape.stage_of(r, chunk - 1));
      }
    }
    CHECK(seen == std::vector<int>(seen.size(), 1));
  }
}

TEST_CASE("forwards alone, each once", "[schedule]") {
  CHECK(to_text(generate_forward_schedule({2, 2, 3})) ==
        "F0.0 F0.1 F2.0 F2.1 F0.2 F2.2\n"
        "F1.0 F1.1 F3.0 F3.1 F1.2 F3.2\n");
  CHECK(to_text(generate_forward_schedule({2, 2, 4, StagePlacement::kV})) ==
        "F0.0 F0.1 F0.2 F3.0 F0.3 F3.1 F3.2 F3.3\n"
        "F1.0 F2.0 F1.1 F2.1 F1.2 F2.2 F1.3 F2.3\n");
  CHECK(to_text(generate_forward_schedule({2, 2, 1, StagePlacement::kV})) == "F0.0 F3.0\nF1.0 F2.0\n");
}

TEST_CASE("a schedule of one rank with one stage is forward, backward", "[schedule]") {
  CHECK(to_text(generate_schedule({PipelineKind::k1F1B, 1, 3})) == "F0.0 D0.0 F0.1 D0.1 F0.2 D0.2\n");
}

}  // namespace jevons
