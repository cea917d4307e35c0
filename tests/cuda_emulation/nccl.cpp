// NCCL on the emulated GPUs of an MPI job, one per process. A call is work of its stream: it starts when the
// stream reaches it and is polled until MPI says that it is done. Sends are synchronous, so that a program
// which relies on buffers that NCCL does not promise hangs here too.
#include <mpi.h>
#include <nccl.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "control.h"
#include "stand_in.h"

using namespace emulation;

struct ncclComm {
  MPI_Comm mpi = MPI_COMM_NULL;
  int rank = 0, size = 1;
};

namespace {

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
  cudaStream_t stream;
  Range reads, writes;
  std::function<MPI_Request(const void* from, void* to)> start;
};
struct Transfer {
  std::vector<char> from, to;
  MPI_Request request;
};
thread_local int group_depth = 0;
thread_local std::vector<Call> group;

// All calls of a group go on at the same time.
cudaError_t poll(const std::vector<Call>& calls, std::deque<Transfer>& transfers) {
  if (transfers.empty()) {
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
    enqueue(stream, [=] { return poll(*calls, *transfers); });
  }
  return ncclSuccess;
}

ncclResult_t add(Call call) {
  for (const Range& range : {call.reads, call.writes}) {
    if (range.bytes > 0 && !on_device(range.data, range.bytes)) {
      misuse(cudaErrorInvalidValue, "NCCL: a buffer is not device memory, or too short");
      return ncclInvalidArgument;
    }
  }
  group.push_back(std::move(call));
  return group_depth > 0 ? ncclSuccess : start_group();
}

// A message to or from one peer.
ncclResult_t add_transfer(Call call) {
  static int counted = 0;
  if (settings().nccl_fails == 0 || ++counted < settings().nccl_fails) return add(std::move(call));
  counted = 0;
  return ncclSystemError;
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
int communicators = 0;

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

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclSuccess       ? "no error"
         : result == ncclSystemError ? "unhandled system error"
                                     : "invalid argument";
}
const char* ncclGetLastError(ncclComm_t) {
  return "";
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* error) {
  *error = ncclSuccess;
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
  const std::vector<int> members = members_of(id, size, rank);
  MPI_Group world = MPI_GROUP_NULL, chosen = MPI_GROUP_NULL;
  MPI_Comm_group(MPI_COMM_WORLD, &world);
  MPI_Group_incl(world, size, members.data(), &chosen);
  *comm = new ncclComm{MPI_COMM_NULL, rank, size};
  communicators += size > 1 ? 1 : 0;
  if (communicators > 1 && !keeps_order_of_calls())
    misuse(cudaErrorInvalidValue, "NCCL: several communicators without NCCL_LAUNCH_ORDER_IMPLICIT=1");
  MPI_Comm_create_group(MPI_COMM_WORLD, chosen, id.serial % kTags, &(*comm)->mpi);
  MPI_Group_free(&chosen);
  MPI_Group_free(&world);
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  finish_all_streams();
  MPI_Comm_free(&comm->mpi);
  communicators -= comm->size > 1 ? 1 : 0;
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  return --group_depth > 0 ? ncclSuccess : start_group();
}

ncclResult_t ncclSend(const void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const std::size_t bytes = bytes_of(count, type);
  return add_transfer({stream, {data, bytes}, {}, [=](const void* from, void*) {
                         MPI_Request request;
                         MPI_Issend(from, static_cast<int>(bytes), MPI_BYTE, peer, 0, comm->mpi, &request);
                         return request;
                       }});
}
ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const std::size_t bytes = bytes_of(count, type);
  return add_transfer({stream, {}, {data, bytes}, [=](const void*, void* to) {
                         MPI_Request request;
                         MPI_Irecv(to, static_cast<int>(bytes), MPI_BYTE, peer, 0, comm->mpi, &request);
                         return request;
                       }});
}

ncclResult_t ncclAllGather(const void* in, void* out, std::size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  const std::size_t bytes = bytes_of(count, type);
  const Range all{out, bytes * static_cast<std::size_t>(comm->size)};
  return add({stream, {in, bytes}, all, [=](const void* from, void* to) {
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
  return add({stream, is_root ? Range{in, bytes} : Range{}, {out, bytes}, [=](const void* from, void* to) {
                if (is_root) std::memcpy(to, from, bytes);
                MPI_Request request;
                MPI_Ibcast(to, static_cast<int>(bytes), MPI_BYTE, root, comm->mpi, &request);
                return request;
              }});
}

}  // extern "C"
