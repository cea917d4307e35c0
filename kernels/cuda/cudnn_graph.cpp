#include "kernels/cuda/cudnn_graph.h"

#include <algorithm>
#include <string>

#include "kernels/core/error.h"

namespace jevons::cuda {
namespace {

// Engines asked for; the heuristics rank them by expected speed.
constexpr std::int64_t kMaxEngines = 8;

CudnnDescriptor& shaped(CudnnDescriptor& made, const CudnnTensor& tensor) {
  return made.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, tensor.dtype)
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, tensor.alignment)
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, std::span<const std::int64_t>(tensor.dims))
      .set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, std::span<const std::int64_t>(tensor.strides));
}

// False if cuDNN has nothing for what the descriptor asks.
bool supported(cudnnStatus_t status, std::string_view what) {
  if (CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED) return false;
  check_cudnn(status, what);
  return true;
}

// The engines that the heuristics propose for a finalized graph, best first.
std::vector<CudnnDescriptor> engines_for(const CudnnDescriptor& graph, const CudnnTarget& target) {
  CudnnDescriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, graph.get())
      .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
  if (target.description != nullptr)
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, target.description);
  if (!supported(cudnnBackendFinalize(heuristics.get()), "choosing an engine")) return {};

  std::vector<CudnnDescriptor> engines;
  std::vector<cudnnBackendDescriptor_t> handles;
  for (std::int64_t i = 0; i < kMaxEngines; ++i)
    handles.push_back(engines.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).get());
  std::int64_t found = 0;
  check_cudnn(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, kMaxEngines, &found, handles.data()),
              "choosing an engine");
  while (std::ssize(engines) > found) engines.pop_back();
  return engines;
}

struct Engine {
  std::int64_t id = 0;
  bool same_bits = true;  // at every call with the same inputs
};

// What cuDNN says of the engine that a configuration is for.
Engine engine_of(const CudnnDescriptor& configuration) {
  CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t handle = engine.get();
  std::int64_t found = 0;
  check_cudnn(cudnnBackendGetAttribute(configuration.get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &found, &handle),
              "reading an engine");
  Engine result;
  check_cudnn(cudnnBackendGetAttribute(handle, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &found,
                                       &result.id),
              "reading an engine's number");
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  check_cudnn(cudnnBackendGetAttribute(handle, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                       CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &found, notes.data()),
              "reading an engine's notes");
  const auto end = notes.begin() + std::min<std::int64_t>(found, std::ssize(notes));
  result.same_bits = std::find(notes.begin(), end, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) == end;
  return result;
}

}  // namespace

void check_cudnn(cudnnStatus_t status, std::string_view what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char message[512] = "";
  cudnnGetLastErrorString(message, sizeof message);
  fail(ExitCode::kFailure, "cuDNN, {}: {} {}", what, cudnnGetErrorString(status), message);
}

CudnnDescriptor::CudnnDescriptor(cudnnBackendDescriptorType_t type) {
  check_cudnn(cudnnBackendCreateDescriptor(type, &handle_), "creating a descriptor");
}

CudnnDescriptor::~CudnnDescriptor() {
  if (handle_ != nullptr) cudnnBackendDestroyDescriptor(handle_);
}

CudnnDescriptor::CudnnDescriptor(CudnnDescriptor&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)) {}

CudnnDescriptor& CudnnDescriptor::operator=(CudnnDescriptor&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

CudnnDescriptor& CudnnDescriptor::finalize() {
  check_cudnn(cudnnBackendFinalize(handle_), "checking a descriptor");
  return *this;
}

void CudnnDescriptor::set_raw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                              std::int64_t count, const void* values) {
  const cudnnStatus_t status = cudnnBackendSetAttribute(handle_, name, type, count, values);
  if (status != CUDNN_STATUS_SUCCESS)
    check_cudnn(status, fmt::format("attribute {}", static_cast<int>(name)));
}

CudnnGraph::Node CudnnGraph::keep(CudnnDescriptor part) {
  part.finalize();
  return parts_.emplace_back(std::move(part)).get();
}

CudnnGraph::Node CudnnGraph::tensor(const CudnnTensor& tensor) {
  const bool inside = tensor.id == 0;
  CudnnDescriptor made(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  made.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, inside ? next_inner_++ : tensor.id)
      .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, inside);
  return keep(std::move(shaped(made, tensor)));
}

CudnnGraph::Node CudnnGraph::scalar(std::int64_t id, cudnnDataType_t type) {
  CudnnDescriptor made(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  made.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id)
      .set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, true);
  return keep(std::move(shaped(made, {{1, 1, 1, 1}, {1, 1, 1, 1}, type, id})));
}

CudnnGraph::Node CudnnGraph::operation(cudnnBackendDescriptorType_t type, std::initializer_list<Link> links,
                                       Node y) {
  CudnnDescriptor made(type);
  for (const auto& [name, node] : links) {
    if (node != nullptr) made.set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, node);
  }
  made.finalize();
  operations_.push_back(std::move(made));
  return y;
}

CudnnGraph::Node CudnnGraph::pointwise(cudnnPointwiseMode_t mode, const Operands& in, Node y,
                                       std::int64_t axis) {
  CudnnDescriptor settings(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  settings.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode)
      .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  if (axis >= 0) settings.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
  const Node how = keep(std::move(settings));
  return operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
                   {{CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how},
                    {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, in.x},
                    {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, in.b},
                    {CUDNN_ATTR_OPERATION_POINTWISE_TDESC, in.condition},
                    {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y}},
                   y);
}

CudnnGraph::Node CudnnGraph::index(Node like, std::int64_t axis, Node y) {
  return pointwise(CUDNN_POINTWISE_GEN_INDEX, {like, nullptr, nullptr}, y, axis);
}

CudnnGraph::Node CudnnGraph::matmul(Node a, Node b, Node y) {
  CudnnDescriptor settings(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  settings.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  const Node how = keep(std::move(settings));
  return operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
                   {{CUDNN_ATTR_OPERATION_MATMUL_DESC, how},
                    {CUDNN_ATTR_OPERATION_MATMUL_ADESC, a},
                    {CUDNN_ATTR_OPERATION_MATMUL_BDESC, b},
                    {CUDNN_ATTR_OPERATION_MATMUL_CDESC, y}},
                   y);
}

CudnnGraph::Node CudnnGraph::reduce(cudnnReduceTensorOp_t op, Node x, Node y) {
  CudnnDescriptor settings(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  settings.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, op)
      .set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  const Node how = keep(std::move(settings));
  return operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
                   {{CUDNN_ATTR_OPERATION_REDUCTION_DESC, how},
                    {CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x},
                    {CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y}},
                   y);
}

CudnnGraph::Node CudnnGraph::reshape(Node x, Node y) {
  return operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR,
                   {{CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x}, {CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y}}, y);
}

std::optional<CudnnPlan> CudnnPlan::find(CudnnGraph graph, const CudnnTarget& target) {
  CudnnPlan plan(std::move(graph), target);
  if (!supported(cudnnBackendFinalize(plan.whole_.get()), "checking a graph")) return std::nullopt;
  for (CudnnDescriptor& engine : engines_for(plan.whole_, target)) {
    const Engine facts = engine_of(engine);
    if (!facts.same_bits || !plan.compile(std::move(engine), target)) continue;
    plan.engine_id_ = facts.id;
    return plan;
  }
  return std::nullopt;
}

CudnnPlan::CudnnPlan(CudnnGraph graph, const CudnnTarget& target)
    : graph_(std::move(graph)),
      whole_(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR),
      engine_(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR),
      plan_(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const CudnnDescriptor& operation : graph_.operations_) operations.push_back(operation.get());
  whole_.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
             std::span<const cudnnBackendDescriptor_t>(operations));
  if (target.handle != nullptr)
    whole_.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
}

// False if the engine's kernels do not compile: the next engine's may.
bool CudnnPlan::compile(CudnnDescriptor engine, const CudnnTarget& target) {
  CudnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  if (target.handle != nullptr) plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, engine.get());
  if (cudnnBackendFinalize(plan.get()) != CUDNN_STATUS_SUCCESS) return false;
  std::int64_t bytes = 0;
  check_cudnn(cudnnBackendGetAttribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                                       1, nullptr, &bytes),
              "reading a plan's scratch memory");
  engine_ = std::move(engine);
  plan_ = std::move(plan);
  workspace_bytes_ = static_cast<std::size_t>(bytes);
  return true;
}

void CudnnPlan::execute(cudnnHandle_t handle, std::span<const Binding> bindings, void* workspace) const {
  std::vector<std::int64_t> ids;
  std::vector<void*> data;
  for (const Binding& binding : bindings) {
    ids.push_back(binding.id);
    data.push_back(binding.data);
  }
  CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, std::span<const std::int64_t>(ids))
      .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, std::span<void* const>(data))
      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace)
      .finalize();
  check_cudnn(cudnnBackendExecute(handle, plan_.get(), pack.get()), "running a plan");
}

}  // namespace jevons::cuda
