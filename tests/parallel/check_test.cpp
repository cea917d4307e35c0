// Lists that somebody wrote: read back whole, and refused with file, line and action if they cannot run.
#include "parallel/pipeline/check.h"

#include <algorithm>
#include <string>

#include "parallel/pipeline/lower.h"
#include "tests/parallel/schedules.h"
#include "tests/support/catch.h"

namespace jevons {
namespace {

using namespace test;
using Catch::Matchers::ContainsSubstring;
using enum PipelineKind;

std::string refusal_of(const std::string& text) {
  try {
    parse_schedule(text, "my.schedule");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kUsage);
    return error.what();
  }
  return "accepted";
}

// The golden text of 2 ranks and 4 micro-batches with `old` replaced once.
std::string refusal_of(PipelineKind kind, const std::string& old, const std::string& with) {
  std::string text = to_text(generate_schedule(options_of(kind, 2, 4)));
  const std::size_t at = text.find(old);
  REQUIRE(at != std::string::npos);
  return refusal_of(text.replace(at, old.size(), with));
}

}  // namespace

TEST_CASE("a list is read as it is written", "[schedule]") {
  std::vector<PipelineOptions> kinds;
  for (const PipelineKind kind : kKinds) kinds.push_back(options_of(kind, 1, 1));
  kinds.push_back({kInterleaved, 1, 1, 3});
  kinds.push_back({kInterleaved, 1, 1, 2, PipelineOverlap::kPairs});
  for (const PipelineOptions& options : kinds) {
    for (const PipelineSchedule& schedule : accepted(options, {2, 3, 4, 8}, from_to(1, 20))) {
      const PipelineSchedule read = parse_schedule(to_text(schedule), "text");
      REQUIRE(read.shape == schedule.shape);
      REQUIRE(read.ranks == schedule.ranks);
    }
  }
  CHECK_NOTHROW(parse_schedule("F0.0\tF0.1  D0.0 D0.1 \r\nF1.0 D1.0 F1.1 D1.1", "text"));
}

TEST_CASE("a list that cannot run is refused", "[schedule]") {
  // F0.0 F0.1 D0.0 F0.2 D0.1 F0.3 D0.2 D0.3
  // F1.0 D1.0 F1.1 D1.1 F1.2 D1.2 F1.3 D1.3
  const std::string place = "my.schedule:1: ", below = "my.schedule:2: ";
  const auto is = [](const std::string& text) { return Catch::Matchers::Equals(text); };
  CHECK_THAT(refusal_of(k1F1B, "F0.1", "F1.1"),
             is(place + "F1.1, action 2 of the line: stage 1 is on rank 1, which is line 2"));
  CHECK_THAT(refusal_of(k1F1B, "F1.1", "F1.0"), is(below + "F1.0, action 3 of the line: the second time"));
  CHECK_THAT(refusal_of(k1F1B, "D0.1", "D0.0"), is(place + "D0.0, action 5 of the line: the second time"));
  CHECK_THAT(refusal_of(k1F1B, " F1.3 D1.3", ""), is(below + "F1.3 is missing"));
  CHECK_THAT(refusal_of(k1F1B, " D0.3\n", "\n"), is(place + "the backward of F0.3 is missing"));
  CHECK_THAT(refusal_of(k1F1B, "F1.1 D1.1", "D1.1 F1.1"),
             is(below + "D1.1, action 3 of the line: comes before its forward"));
  CHECK_THAT(
      refusal_of(k1F1B, "F0.2 D0.1 F0.3", "F0.3 D0.1 F0.2"),
      is(place +
         "F0.3, action 4 of the line: micro-batch 2 comes next: those of a stage are in ascending order"));
  CHECK_THAT(refusal_of(k1F1B, "D0.2 D0.3", "D0.3 D0.2"),
             ContainsSubstring("action 7 of the line: micro-batch 2"));
  CHECK_THAT(refusal_of(k1F1B, "F0.0 F0.1 D0.0", "F0.0 D0.0 F0.1"), is("accepted"));  // slower, not wrong

  // F0.0 F0.1 B0.0 W0.0 F0.2 B0.1 W0.1 F0.3 B0.2 W0.2 B0.3 W0.3
  CHECK_THAT(refusal_of(kZbH1, "B0.1 W0.1", "W0.1 B0.1"),
             is(place + "W0.1, action 6 of the line: comes before its B"));
  CHECK_THAT(refusal_of(kZbH1, "W0.1", "W0.0"),
             ContainsSubstring("W0.0, action 7 of the line: is done already"));
  CHECK_THAT(refusal_of(kZbH1, "W1.0 F1.2 B1.2 W1.1", "W1.1 F1.2 B1.2 W1.0"),
             ContainsSubstring("W1.1, action 5 of the line: micro-batch 0 comes next"));
  CHECK_THAT(refusal_of(kZbH1, " W0.3", ""), is(place + "W0.3 is missing"));
  CHECK_THAT(refusal_of(kZbH1, "B0.0 W0.0", "D0.0 W0.0"),
             ContainsSubstring("W0.0, action 4 of the line: is done"));

  CHECK_THAT(refusal_of(kZbH1, "B0.0 W0.0 F0.2 B0.1 W0.1", "B0.0 F0.2 D0.1 W0.0"),
             ContainsSubstring("D0.1, action 5 of the line: W0.0 comes first"));

  CHECK_THAT(refusal_of(kDualPipeV, "(F0.3|D3.1)", "(D3.1|F0.3)"),
             ContainsSubstring("a pair is a forward and a D"));
  CHECK_THAT(refusal_of(kDualPipeV, "F1.0 F2.0", "(F1.0|F2.0)"),
             ContainsSubstring("a pair is a forward and a D"));
  // Both need what the other rank gives last; a pair whose backward needs its forward; one whose D comes over
  // the other rank from its F.
  CHECK_THAT(refusal_of("F0.0 F0.1 D0.0 D0.1\nF1.0 F1.1 D1.0 D1.1\n"), is("accepted"));
  CHECK_THAT(
      refusal_of("F0.0 D0.0 F0.1 D0.1\nF1.0 F1.1 D1.0 D1.1\n"),
      is(place + "D0.0, action 2 of the line: would wait for ever; so would F1.1, action 2 of line 2"));
  CHECK_THAT(refusal_of("F0.0 F0.1 D0.0 D0.1\n(F1.0|D1.0) F1.1 D1.1\n"),
             is(below + "D1.0, action 2 of the line: comes before its forward"));
  CHECK_THAT(refusal_of("F0.0 (F0.1|D0.0) D0.1\nF1.0 F1.1 D1.0 D1.1\n"),
             is(place +
                "(F0.1|D0.0), action 2 of the line: would wait for ever; so would F1.1, action 2 of line 2"));
}

TEST_CASE("what is no list is refused", "[schedule]") {
  const auto refusal = [](const std::string& text) { return refusal_of(text); };
  CHECK_THAT(refusal(""), ContainsSubstring("my.schedule: no lists"));
  CHECK_THAT(refusal("F0.0 D0.0\n\nF1.0 D1.0\n"), ContainsSubstring("my.schedule:2: no actions"));
  for (const std::string word :
       {"G0.0", "F0", "F.0", "F0.", "F-1.0", "F0.0.0", "F0.0x", "f0.0", "F0,0", "F0.9999999999", "(F0.0",
        "F0.0)", "(F0.0|D0.0", "(F0.0 D0.0)", "(F0.0)", "()", "F"}) {
    INFO(word);
    CHECK_THAT(refusal(word + " D0.0\n"),
               ContainsSubstring("my.schedule:1: '") && ContainsSubstring("is no action"));
  }
  CHECK_THAT(refusal("F0.0 D0.0\nF1.0 D1.0 F2.0 D2.0\n"),
             ContainsSubstring("stages 0 to 2 on 2 ranks, one for each line: 3 is no multiple of 2"));
  CHECK_THAT(refusal("F999999.0 D0.0\n"), ContainsSubstring("stage 999999 in a schedule of 2 actions"));
  CHECK_THAT(refusal("F0.999999 D0.0\n"), ContainsSubstring("micro-batch 0 comes next"));
  CHECK_THAT(refusal("F0.0\nF1.0\n"), ContainsSubstring("my.schedule:1: the backward of F0.0 is missing"));
}

// Whatever is changed at one place, a list that passes can be given its messages.
TEST_CASE("two neighbours of a list change places", "[schedule]") {
  for (const PipelineKind kind : kKinds) {
    const PipelineSchedule schedule = generate_schedule(options_of(kind, 4, 8));
    int refused = 0, accepted = 0;
    for (std::size_t r = 0; r < schedule.ranks.size(); ++r) {
      for (std::size_t k = 0; k + 1 < schedule.ranks[r].size(); ++k) {
        PipelineSchedule changed = schedule;
        std::swap(changed.ranks[r][k], changed.ranks[r][k + 1]);
        try {
          check(changed, "changed");
        } catch (const Error&) {
          ++refused;
          continue;
        }
        ++accepted;
        CHECK(lower(changed).size() == 4);
      }
    }
    INFO(name_of(kind));
    CHECK(refused > 0);
    CHECK(accepted > 0);
  }
}

}  // namespace jevons
