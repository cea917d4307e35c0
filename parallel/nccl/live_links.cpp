#include "parallel/nccl/live_links.h"

#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/log.h"

namespace jevons::nccl {
namespace {

constexpr auto kPatience = std::chrono::seconds(10);  // for the end of all links

// In one group: NCCL then tells all kernels to quit before it waits for any. One after another, the end of
// the first communicator would wait for the kernels of the others.
void abort_all(const std::vector<ncclComm_t>& comms) {
  ncclGroupStart();
  for (ncclComm_t comm : comms) ncclCommAbort(comm);
  ncclGroupEnd();
}

}  // namespace

std::string words_for(ncclResult_t result, ncclComm_t comm) {
  const std::string last = ncclGetLastError(comm);
  return fmt::format("NCCL: {}{}{}", ncclGetErrorString(result), last.empty() ? "" : ", ", last);
}

LiveLinks::LiveLinks(Stream& compute) : compute_(compute) {
  compute_.set_links(this);
}

LiveLinks::~LiveLinks() {
  compute_.set_links(nullptr);
}

Link& LiveLinks::add(std::string place) {
  ++started_;
  links_.push_back({.comm = nullptr, .place = std::move(place)});
  return links_.back();
}

void LiveLinks::remove(const Link& link) noexcept {
  // Other ranks may not come to an orderly end when an exception ends this one.
  if (std::uncaught_exceptions() > 0) cut();
  if (link.comm != nullptr) ncclCommDestroy(link.comm);
  links_.remove_if([&](const Link& other) { return &other == &link; });
}

void LiveLinks::check() {
  for (const Link& link : links_) {
    if (link.comm == nullptr) continue;
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(link.comm, &state);
    if (asked != ncclSuccess) state = asked;
    if (state == ncclSuccess || state == ncclInProgress) continue;
    fail(fmt::format("{} {}, or a collective before it: {}", link.last, link.place,
                     words_for(state, link.comm)));
  }
}

bool LiveLinks::cut() noexcept {
  try {
    std::vector<ncclComm_t> live;
    for (Link& link : links_) {
      if (link.comm != nullptr) live.push_back(std::exchange(link.comm, nullptr));
    }
    if (live.empty()) return whole_;
    // On a thread of its own, which is left behind if NCCL does not come back.
    const auto ended = std::make_shared<std::promise<void>>();
    std::thread([live, ended] {
      abort_all(live);
      ended->set_value();
    }).detach();
    whole_ = ended->get_future().wait_for(kPatience) == std::future_status::ready;
  } catch (const std::exception& error) {
    whole_ = false;
    log_error("NCCL's communicators cannot be ended: {}", error.what());
  }
  return whole_;
}

void LiveLinks::fail(const std::string& message) {
  log_error("{}; all communicators of NCCL are ended", message);
  log_flush();
  cut();
  throw Error(ExitCode::kFailure, message);
}

}  // namespace jevons::nccl
