#include "trainer/config/checkpoint_section.h"

#include "trainer/config/section.h"

namespace jevons {
namespace {

constexpr Choice<SaveErrorPolicy> kPolicies[] = {{SaveErrorPolicy::kStop, "stop"},
                                                 {SaveErrorPolicy::kContinue, "continue"}};

}  // namespace

void carry(Bridge b, CheckpointConfig& checkpoint) {
  b("interval", checkpoint.interval);
  b("keep_last", checkpoint.keep_last);
  b("keep_every", checkpoint.keep_every);
  b("keep_best", checkpoint.keep_best);
  b("on_error", checkpoint.on_error, kPolicies);
  b("asynchronous", checkpoint.asynchronous);
  b("auto_min_minutes", checkpoint.auto_min_minutes);
  b("auto_max_minutes", checkpoint.auto_max_minutes);
  b("final_save", checkpoint.final_save);
}

void check(const CheckpointConfig& checkpoint, Rules& rules) {
  const auto needs_last = [&](std::int64_t value, const char* key) {
    rules.require(
        {key, "checkpoint.keep_last"}, [&] { return value == 0 || checkpoint.keep_last > 0; },
        "{} = {} has no effect: without checkpoint.keep_last every checkpoint stays", key, value);
  };
  needs_last(checkpoint.keep_every, "checkpoint.keep_every");
  needs_last(checkpoint.keep_best, "checkpoint.keep_best");
  rules.require(
      {"checkpoint.auto_min_minutes", "checkpoint.auto_max_minutes"},
      [&] { return checkpoint.auto_min_minutes <= checkpoint.auto_max_minutes; },
      "checkpoint.auto_min_minutes = {} is more than checkpoint.auto_max_minutes = {}",
      checkpoint.auto_min_minutes, checkpoint.auto_max_minutes);
}

}  // namespace jevons
