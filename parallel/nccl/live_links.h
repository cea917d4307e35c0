// The NCCL communicators of one process, which live and die together: what breaks one leaves the others with
// ranks that do not come. They are asked for errors while the host waits, and all are ended before an error
// unwinds: a kernel of NCCL that waits for a lost rank never ends by itself, and whatever frees memory or
// destroys a stream waits for it. Private to parallel/nccl.
#pragma once

#include <nccl.h>

#include <list>
#include <string>

#include "kernels/core/stream.h"

namespace jevons::nccl {

struct Link {
  ncclComm_t comm = nullptr;   // null before its start and after its end
  std::string place;           // "over ep, rank 1 of 4"
  const char* last = "start";  // the last collective that it was given
};

// NCCL's words for `result`, and what it says beside them of its last error.
std::string words_for(ncclResult_t result, ncclComm_t comm);

class LiveLinks final : public DeviceLinks {
 public:
  // They become the links of `compute`, which must outlive this.
  explicit LiveLinks(Stream& compute);
  ~LiveLinks() override;

  // Stays where it is until remove(), which ends what is still live, in good order: waits for its work.
  Link& add(std::string place);
  void remove(const Link& link) noexcept;
  int started() const { return started_; }  // links added so far

  void check() override;
  bool cut() noexcept override;
  // Says `message` in the log, cuts, and throws it as Error(kFailure). No group of NCCL's calls may be open.
  [[noreturn]] void fail(const std::string& message);

 private:
  Stream& compute_;
  std::list<Link> links_;
  int started_ = 0;
  bool whole_ = true;  // no cut was given up
};

}  // namespace jevons::nccl
