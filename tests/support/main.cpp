#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

#include <memory>

#include "tests/support/mpi_job.h"
#include "tests/support/skip.h"

namespace jevons::test {
namespace {

#if __has_include(<catch2/catch_all.hpp>)
using Listener = Catch::EventListenerBase;
#else
using Listener = Catch::TestEventListenerBase;
#endif

struct CaseTags final : Listener {
  using Listener::Listener;
  void testCaseStarting(const Catch::TestCaseInfo& info) override { begin_case(info.tagsAsString()); }
};

CATCH_REGISTER_LISTENER(CaseTags)

}  // namespace
}  // namespace jevons::test

int main(int argc, char** argv) {
  std::unique_ptr<jevons::test::MpiJob> job;
  if (jevons::started_by_mpi_launcher()) job = std::make_unique<jevons::test::MpiJob>();
  const int code = jevons::test::with_skips(Catch::Session().run(argc, argv));
  return job == nullptr ? code : job->end(code);
}
