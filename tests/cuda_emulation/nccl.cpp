// NCCL on the emulated GPUs of an MPI job, one per process. A call is work of its stream: it starts when the
// stream reaches it and is polled until MPI says that it is done. Sends are synchronous, so that a program
// which relies on buffers that NCCL does not promise hangs here too. Messages can be made to stay pending
// (Settings::nccl_stalls): then only the end of their communicator ends them, as a kernel that waits for a
// lost rank.
#include <mpi.h>
#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "control.h"
#include "findings.h"
#include "stand_in.h"

using namespace emulation;

struct ncclComm {
  MPI_Comm mpi = MPI_COMM_NULL;
  int rank = 0, size = 1;
  std::atomic<int> stalled = 0;  // messages that never end
  std::atomic<bool> aborted = false;
};

namespace {

using Comm = std::shared_ptr<ncclComm>;

// ncclCommAbort comes on threads other than the device's.
std::mutex comms_mutex;
std::vector<Comm> comms;  // made and not destroyed

Comm shared(ncclComm_t comm) {
  const std::lock_guard lock(comms_mutex);
  const auto it = std::find_if(comms.begin(), comms.end(), [&](const Comm& c) { return c.get() == comm; });
  if (it != comms.end()) return *it;
  misuse(cudaErrorInvalidValue, "NCCL: a communicator that is none, or none any more");
  return nullptr;
}

void forget(ncclComm_t comm) {
  const std::lock_guard lock(comms_mutex);
  std::erase_if(comms, [&](const Comm& c) { return c.get() == comm; });
}

// Ending a communicator waits for the device, and so for the messages of all others.
void wait_for_stalled_messages() {
  const auto waits = [] {
    const std::lock_guard lock(comms_mutex);
    return std::any_of(comms.begin(), comms.end(),
                       [](const Comm& c) { return !c->aborted && c->stalled > 0; });
  };
  while (waits()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

// What a unique id holds: who made it and which of his it is.
struct Id {
  int world_rank, serial;
};
constexpr int kTags = 30000;

struct Range {
  const void* data = nullptr;
  std::size_t bytes = 0;
};
// start: gives the transfer to MPI, which reads `from` and writes `to`: host memory, since MPI moves bytes
// whenever the host calls it, also while device memory is closed to the host.
struct Call {
  Comm comm;
  cudaStream_t stream;
  Range reads, writes;
  std::function<MPI_Request(const void* from, void* to)> start;
  bool stalls = false;
};
struct Transfer {
  std::vector<char> from, to;
  MPI_Request request;
};
thread_local int group_depth = 0;
thread_local std::vector<Call> group;
thread_local std::vector<ncclComm_t> aborts;          // of the group
thread_local ncclResult_t group_error = ncclSuccess;  // of a call of it: none of them starts then

// What MPI still has of calls that were aborted.
std::vector<std::shared_ptr<std::deque<Transfer>>> left_behind;

bool any_aborted(const std::vector<Call>& calls) {
  return std::any_of(calls.begin(), calls.end(), [](const Call& call) { return call.comm->aborted.load(); });
}

// All calls of a group go on at the same time.
cudaError_t poll(const std::vector<Call>& calls, std::deque<Transfer>& transfers) {
  if (transfers.empty()) {
    if (std::any_of(calls.begin(), calls.end(), [](const Call& call) { return call.stalls; }))
      return cudaErrorNotReady;
    for (const Call& call : calls) {
      Transfer& t = transfers.emplace_back();
      if (call.reads.bytes > 0) {
        check_operation_access(call.reads.data, call.reads.bytes, Access::kRead);
        const char* const data = static_cast<const char*>(call.reads.data);
        t.from.assign(data, data + call.reads.bytes);
      }
      t.to.resize(call.writes.bytes);
      t.request = call.start(t.from.data(), t.to.data());
    }
  }
  for (Transfer& t : transfers) {
    int done = 0;
    MPI_Test(&t.request, &done, MPI_STATUS_IGNORE);  // a request that is done stays done
    if (done == 0) return cudaErrorNotReady;
  }
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const Range& writes = calls[i].writes;
    if (writes.bytes == 0) continue;
    check_operation_access(writes.data, writes.bytes, Access::kWrite);
    std::memcpy(const_cast<void*>(writes.data), transfers[i].to.data(), writes.bytes);
  }
  return cudaSuccess;
}

ncclResult_t start_group() {
  while (!group.empty()) {
    const cudaStream_t stream = group.front().stream;
    auto calls = std::make_shared<std::vector<Call>>();
    std::erase_if(group, [&](Call& call) {
      if (call.stream != stream) return false;
      calls->push_back(std::move(call));
      return true;
    });
    auto transfers = std::make_shared<std::deque<Transfer>>();
    enqueue(stream, [=] {
      if (!any_aborted(*calls)) return poll(*calls, *transfers);
      left_behind.push_back(transfers);
      return cudaSuccess;
    });
  }
  return ncclSuccess;
}

ncclResult_t end_aborts() {
  if (std::exchange(aborts, {}).empty()) return ncclSuccess;
  wait_for_stalled_messages();
  return ncclSuccess;
}

ncclResult_t add(Call call) {
  if (call.comm == nullptr || call.comm->aborted) return ncclInvalidArgument;
  if (priority_of(call.stream) != kHighestPriority) report("NCCL: a stream without the highest priority");
  for (const Range& range : {call.reads, call.writes}) {
    if (range.bytes > 0 && !on_device(range.data, range.bytes)) {
      misuse(cudaErrorInvalidValue, "NCCL: a buffer is not device memory, or too short");
      return ncclInvalidArgument;
    }
  }
  group.push_back(std::move(call));
  return group_depth > 0 ? ncclSuccess : start_group();
}

std::int64_t misaligned = 0;

// A message to or from one peer.
ncclResult_t add_transfer(Call call) {
  static int counted = 0, made = 0;
  const void* const data = call.reads.data != nullptr ? call.reads.data : call.writes.data;
  misaligned += reinterpret_cast<std::uintptr_t>(data) % 16 != 0 ? 1 : 0;
  call.stalls = settings().nccl_stalls > 0 && ++made >= settings().nccl_stalls;
  if (call.stalls && call.comm != nullptr) ++call.comm->stalled;
  if (settings().nccl_fails == 0 || ++counted < settings().nccl_fails) return add(std::move(call));
  counted = 0;
  return group_error = ncclSystemError;
}

std::size_t bytes_of(std::size_t count, ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return count;
    case ncclFloat16:
    case ncclBfloat16:
      return 2 * count;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8 * count;
    default:
      return 4 * count;
  }
}

// Communicators of more than one rank.
std::atomic<int> communicators = 0;

// The real library may start the collectives of several communicators in any order, unless this is set.
bool keeps_order_of_calls() {
  const char* const value = std::getenv("NCCL_LAUNCH_ORDER_IMPLICIT");
  return value != nullptr && std::string_view(value) == "1";
}

// The ranks of the job that belong to a new communicator, by their rank in it.
std::vector<int> members_of(const Id& id, int size, int rank) {
  int me = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &me);
  std::vector<int> members(static_cast<std::size_t>(size));
  const int tag = id.serial % kTags;
  if (me != id.world_rank) {
    MPI_Send(&rank, 1, MPI_INT, id.world_rank, tag, MPI_COMM_WORLD);
    MPI_Recv(members.data(), size, MPI_INT, id.world_rank, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return members;
  }
  members[static_cast<std::size_t>(rank)] = me;
  for (int i = 1; i < size; ++i) {
    int their_rank = 0;
    MPI_Status status;
    MPI_Recv(&their_rank, 1, MPI_INT, MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, &status);
    members[static_cast<std::size_t>(their_rank)] = status.MPI_SOURCE;
  }
  for (int member : members) {
    if (member != me) MPI_Send(members.data(), size, MPI_INT, member, tag, MPI_COMM_WORLD);
  }
  return members;
}

}  // namespace

std::int64_t emulation::misaligned_messages() {
  return misaligned;
}

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclSuccess       ? "no error"
         : result == ncclSystemError ? "unhandled system error"
         : result == ncclRemoteError ? "remote process exited or there was a network error"
                                     : "invalid argument";
}
const char* ncclGetLastError(ncclComm_t) {
  return "";
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  static int asked = 0;
  const bool tells = settings().nccl_tells > 0 && ++asked >= settings().nccl_tells;
  const bool broken = settings().nccl_stalls == 0 || comm->stalled > 0;
  *error = tells && broken ? ncclRemoteError : ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* unique) {
  static int made = 0;
  Id id{0, ++made};
  MPI_Comm_rank(MPI_COMM_WORLD, &id.world_rank);
  std::memcpy(unique->internal, &id, sizeof id);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId unique, int rank) {
  Id id;
  std::memcpy(&id, unique.internal, sizeof id);
  static int begun = 0;
  while (++begun == settings().nccl_start_hangs) {
    for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  const std::vector<int> members = members_of(id, size, rank);
  MPI_Group world = MPI_GROUP_NULL, chosen = MPI_GROUP_NULL;
  MPI_Comm_group(MPI_COMM_WORLD, &world);
  MPI_Group_incl(world, size, members.data(), &chosen);
  const Comm made = std::make_shared<ncclComm>();
  made->rank = rank, made->size = size;
  {
    const std::lock_guard lock(comms_mutex);
    comms.push_back(made);
  }
  *comm = made.get();
  communicators += size > 1 ? 1 : 0;
  if (communicators > 1 && !keeps_order_of_calls())
    report("NCCL: several communicators without NCCL_LAUNCH_ORDER_IMPLICIT=1");
  MPI_Comm_create_group(MPI_COMM_WORLD, chosen, id.serial % kTags, &(*comm)->mpi);
  MPI_Group_free(&chosen);
  MPI_Group_free(&world);
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const Comm keep = shared(comm);
  if (keep == nullptr) return ncclInvalidArgument;
  finish_all_streams();
  MPI_Comm_free(&comm->mpi);
  communicators -= comm->size > 1 ? 1 : 0;
  forget(comm);
  return ncclSuccess;
}
// Its messages end at once, with what they have. Waits for the device: in a group at the group's end, when
// all have been told.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const Comm keep = shared(comm);
  if (keep == nullptr) return ncclInvalidArgument;
  keep->aborted = true;
  communicators -= comm->size > 1 ? 1 : 0;
  forget(comm);
  aborts.push_back(comm);
  return group_depth > 0 ? ncclSuccess : end_aborts();
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (--group_depth > 0) return ncclSuccess;
  end_aborts();
  if (group_error == ncclSuccess) return start_group();
  group.clear();
  return std::exchange(group_error, ncclSuccess);
}

ncclResult_t ncclSend(const void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const std::size_t bytes = bytes_of(count, type);
  return add_transfer({shared(comm), stream, {data, bytes}, {}, [=](const void* from, void*) {
                         MPI_Request request;
                         MPI_Issend(from, static_cast<int>(bytes), MPI_BYTE, peer, 0, comm->mpi, &request);
                         return request;
                       }});
}
ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const std::size_t bytes = bytes_of(count, type);
  return add_transfer({shared(comm), stream, {}, {data, bytes}, [=](const void*, void* to) {
                         MPI_Request request;
                         MPI_Irecv(to, static_cast<int>(bytes), MPI_BYTE, peer, 0, comm->mpi, &request);
                         return request;
                       }});
}

ncclResult_t ncclAllGather(const void* in, void* out, std::size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  const std::size_t bytes = bytes_of(count, type);
  const Range all{out, bytes * static_cast<std::size_t>(comm->size)};
  return add({shared(comm), stream, {in, bytes}, all, [=](const void* from, void* to) {
                MPI_Request request;
                MPI_Iallgather(from, static_cast<int>(bytes), MPI_BYTE, to, static_cast<int>(bytes), MPI_BYTE,
                               comm->mpi, &request);
                return request;
              }});
}
ncclResult_t ncclBroadcast(const void* in, void* out, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = bytes_of(count, type);
  const bool is_root = comm->rank == root;
  return add({shared(comm),
              stream,
              is_root ? Range{in, bytes} : Range{},
              {out, bytes},
              [=](const void* from, void* to) {
                if (is_root) std::memcpy(to, from, bytes);
                MPI_Request request;
                MPI_Ibcast(to, static_cast<int>(bytes), MPI_BYTE, root, comm->mpi, &request);
                return request;
              }});
}

}  // extern "C"
