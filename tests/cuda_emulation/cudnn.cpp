// cuDNN on the emulated GPU: its backend C API over an interpreter of operation graphs (cudnn_evaluation.h).
// Which graphs the real library has an engine for is another question: tests/cuda/plans.
#include <cudnn.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "control.h"
#include "cudnn_evaluation.h"
#include "stand_in.h"

using namespace emulation;

struct cudnnContext {
  cudaStream_t stream = nullptr;
};

namespace {

constexpr std::int64_t kWorkspace = 4096, kWorkspaceAlignment = 256;
// Two engines take any graph; the first would give other bits at every call.
constexpr std::int64_t kFastEngine = 5, kSteadyEngine = 7;
constexpr auto kGraph =
    CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH;  // of the heuristics, and of the engine they give

std::size_t bytes_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
      return 8;
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    default:
      return 4;  // enumerations
  }
}

// Types of the scalars of a graph, by their ids; they are read from host memory at the call.
std::map<std::int64_t, cudnnDataType_t> scalars_of(const Descriptor& graph) {
  std::map<std::int64_t, cudnnDataType_t> types;
  const std::size_t count =
      graph.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).size() / sizeof(const Descriptor*);
  for (std::size_t i = 0; i < count; ++i) {
    const Descriptor& op = graph.child(CUDNN_ATTR_OPERATIONGRAPH_OPS, i);
    if (!op.has(CUDNN_ATTR_OPERATION_POINTWISE_BDESC)) continue;
    const Descriptor& b = op.child(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    if (b.has(CUDNN_ATTR_TENSOR_IS_BY_VALUE) && b.get<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE))
      types[b.get<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)] =
          b.get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
  }
  return types;
}

Descriptor& of(cudnnBackendDescriptor_t descriptor) {
  return *static_cast<Descriptor*>(descriptor);
}

template <class T>
void put(Descriptor& descriptor, cudnnBackendAttributeName_t name, const T& value) {
  const auto* const bytes = reinterpret_cast<const char*>(&value);
  descriptor.attributes[name].assign(bytes, bytes + sizeof value);
}

// What a graph promises of the address of each of its tensors.
std::map<std::int64_t, std::uintptr_t> alignments_of(const Descriptor& graph) {
  std::map<std::int64_t, std::uintptr_t> all;
  const std::size_t count =
      graph.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).size() / sizeof(const Descriptor*);
  for (std::size_t i = 0; i < count; ++i) {
    const Descriptor& op = graph.child(CUDNN_ATTR_OPERATIONGRAPH_OPS, i);
    for (const auto& [name, bytes] : op.attributes) {
      if (bytes.size() != sizeof(const Descriptor*)) continue;
      const Descriptor& part = op.child(static_cast<cudnnBackendAttributeName_t>(name));
      if (part.type != CUDNN_BACKEND_TENSOR_DESCRIPTOR) continue;
      auto& alignment = all[part.get<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)];
      const auto promised = part.get<std::int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
      alignment = std::max(alignment, static_cast<std::uintptr_t>(promised));
    }
  }
  return all;
}

// Lives to the end of the program, as may the plans of a thread.
std::set<cudnnHandle_t>& handles() {
  static auto* const alive = new std::set<cudnnHandle_t>;
  return *alive;
}

cudnnStatus_t wrong(const std::string& what) {
  misuse(cudaErrorInvalidValue, what);
  return CUDNN_STATUS_BAD_PARAM;
}

// Two products go forward, five back.
bool goes_back(const Descriptor& graph) {
  const std::size_t count =
      graph.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).size() / sizeof(const Descriptor*);
  int products = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Descriptor& op = graph.child(CUDNN_ATTR_OPERATIONGRAPH_OPS, i);
    products += op.type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR ? 1 : 0;
  }
  return products > 2;
}

// The engines of a graph into the caller's configurations.
std::int64_t propose(const Descriptor& heuristics, cudnnBackendDescriptor_t* configurations,
                     std::int64_t wanted) {
  std::int64_t found = 0;
  for (const std::int64_t engine : {kFastEngine, kSteadyEngine}) {
    if (found == wanted || (engine == kSteadyEngine && !settings().steady_attention)) continue;
    Descriptor& configuration = of(configurations[found++]);
    configuration.attributes[kGraph] = heuristics.attributes.at(kGraph);
    put(configuration, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, engine);
  }
  return found;
}

}  // namespace

extern "C" {

size_t cudnnGetVersion() {
  return CUDNN_VERSION;
}
const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_SUCCESS ? "CUDNN_STATUS_SUCCESS" : "CUDNN_STATUS_BAD_PARAM";
}
void cudnnGetLastErrorString(char* message, std::size_t bytes) {
  if (bytes > 0) message[0] = 0;
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  *handle = new cudnnContext;
  handles().insert(*handle);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  handles().erase(handle);
  delete handle;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  *descriptor = new Descriptor{type, {}};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  if (of(descriptor).has(CUDNN_ATTR_EXECUTION_PLAN_HANDLE) &&
      !handles().contains(of(descriptor).get<cudnnHandle_t>(CUDNN_ATTR_EXECUTION_PLAN_HANDLE)))
    wrong("cudnnBackendDestroyDescriptor: a plan outlives its handle");
  delete &of(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, std::int64_t count,
                                       const void* values) {
  const auto* const bytes = static_cast<const char*>(values);
  of(descriptor).attributes[name].assign(bytes, bytes + static_cast<std::size_t>(count) * bytes_of(type));
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  if (of(descriptor).type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR && !settings().attention_backward &&
      goes_back(of(descriptor).child(kGraph)))
    return CUDNN_STATUS_NOT_SUPPORTED;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, std::int64_t wanted, std::int64_t* count,
                                       void* to) {
  if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
    *count = propose(of(descriptor), static_cast<cudnnBackendDescriptor_t*>(to), wanted);
    return CUDNN_STATUS_SUCCESS;
  }
  if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {
    put(of(*static_cast<cudnnBackendDescriptor_t*>(to)), CUDNN_ATTR_ENGINE_GLOBAL_INDEX,
        of(descriptor).get<std::int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
    return CUDNN_STATUS_SUCCESS;
  }
  if (name == CUDNN_ATTR_ENGINE_GLOBAL_INDEX || name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
    const auto engine = of(descriptor).get<std::int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    const auto note =
        engine == kFastEngine ? CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC : CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    *count = 1;
    name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE ? std::memcpy(to, &note, sizeof note)
                                             : std::memcpy(to, &engine, sizeof engine);
    return CUDNN_STATUS_SUCCESS;
  }
  if (name != CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) return CUDNN_STATUS_BAD_PARAM;
  std::memcpy(to, &kWorkspace, sizeof kWorkspace);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t variant_pack) {
  const Descriptor& engine = of(plan).child(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
  if (engine.get<std::int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX) == kFastEngine)
    return wrong("cudnnBackendExecute: an engine whose bits differ from call to call");
  const Descriptor* const graph = &engine.child(kGraph);
  const Descriptor& pack = of(variant_pack);
  std::map<std::int64_t, char*> memory;
  const std::size_t count =
      pack.attributes.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).size() / sizeof(std::int64_t);
  for (std::size_t i = 0; i < count; ++i) {
    memory[pack.get<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i)] =
        pack.get<char*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, i);
  }
  std::map<std::int64_t, float> scalars;
  for (const auto& [id, type] : scalars_of(*graph)) {
    std::int32_t whole = 0;
    std::memcpy(&whole, memory.at(id), sizeof whole);
    std::memcpy(&scalars[id], memory.at(id), sizeof(float));
    if (type == CUDNN_DATA_INT32) scalars[id] = static_cast<float>(whole);
  }
  for (const auto& [id, value] : scalars) memory.erase(id);
  char* const workspace = pack.get<char*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  const auto alignments = alignments_of(*graph);
  for (const auto& [id, data] : memory) {
    if (on_device(data, 1) && reinterpret_cast<std::uintptr_t>(data) % alignments.at(id) == 0) continue;
    return wrong("cudnnBackendExecute: tensor " + std::to_string(id) + " is not aligned device memory");
  }
  if (!on_device(workspace, kWorkspace) ||
      reinterpret_cast<std::uintptr_t>(workspace) % kWorkspaceAlignment != 0)
    return wrong("cudnnBackendExecute: the workspace is not aligned device memory, or too short");
  enqueue(handle->stream, [=] {
    check_operation_access(workspace, kWorkspace, Access::kWrite);
    std::memset(workspace, 0xff, kWorkspace);
    evaluate(*graph, memory, scalars);
    return cudaSuccess;
  });
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
