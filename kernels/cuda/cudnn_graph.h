// Operation graphs of cuDNN's backend C API (cudnn_graph.h): tensors and operations as values, plans that own
// what they were made of. Nothing here touches a device until a plan is executed, so graphs are built and
// planned on machines without one, from a description of the device.
#pragma once

#include <cudnn.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace jevons::cuda {

// Throws Error(kFailure) with cuDNN's own last message unless `status` is success. `what` names the step.
void check_cudnn(cudnnStatus_t status, std::string_view what);

// Owns one backend descriptor.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type);
  ~CudnnDescriptor();
  CudnnDescriptor(CudnnDescriptor&& other) noexcept;
  CudnnDescriptor& operator=(CudnnDescriptor&& other) noexcept;

  cudnnBackendDescriptor_t get() const { return handle_; }
  template <class T>
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                       std::span<const T> values) {
    set_raw(name, type, static_cast<std::int64_t>(values.size()), values.data());
    return *this;
  }
  template <class T>
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    set_raw(name, type, 1, &value);
    return *this;
  }
  // The attributes are complete; cuDNN checks them.
  CudnnDescriptor& finalize();

 private:
  void set_raw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
               const void* values);
  cudnnBackendDescriptor_t handle_ = nullptr;
};

// Where a plan shall run: a handle of the device in use or, to plan for a device that is elsewhere, a
// description (a finalized CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR).
struct CudnnTarget {
  cudnnHandle_t handle = nullptr;
  cudnnBackendDescriptor_t description = nullptr;
};

// A tensor of four dims. Ids above 0 are the caller's, bound to memory at execution; 0 is a value inside the
// graph.
struct CudnnTensor {
  std::array<std::int64_t, 4> dims{}, strides{};  // elements
  cudnnDataType_t dtype = CUDNN_DATA_FLOAT;
  std::int64_t id = 0;
  std::int64_t alignment = 16;  // promised of its first element, bytes
};

class CudnnGraph {
 public:
  using Node = cudnnBackendDescriptor_t;  // a tensor of this graph

  Node tensor(const CudnnTensor& tensor);
  // Read from host memory when the plan is executed.
  Node scalar(std::int64_t id, cudnnDataType_t type = CUDNN_DATA_FLOAT);
  // Each adds an operation and returns its result, `y`.
  Node pointwise(cudnnPointwiseMode_t mode, Node x, Node y) {
    return pointwise(mode, {x, nullptr, nullptr}, y);
  }
  Node pointwise(cudnnPointwiseMode_t mode, Node x, Node b, Node y) {
    return pointwise(mode, {x, b, nullptr}, y);
  }
  Node select(Node condition, Node yes, Node no, Node y) {
    return pointwise(CUDNN_POINTWISE_BINARY_SELECT, {yes, no, condition}, y);
  }
  Node index(Node like, std::int64_t axis, Node y);  // of every element, along `axis`
  Node matmul(Node a, Node b, Node y);               // products summed in fp32
  Node reduce(cudnnReduceTensorOp_t op, Node x, Node y);
  Node reshape(Node x, Node y);

 private:
  friend class CudnnPlan;
  struct Operands {
    Node x, b, condition;
  };
  using Link = std::pair<cudnnBackendAttributeName_t, Node>;
  Node pointwise(cudnnPointwiseMode_t mode, const Operands& in, Node y, std::int64_t axis = -1);
  Node keep(CudnnDescriptor part);
  Node operation(cudnnBackendDescriptorType_t type, std::initializer_list<Link> links, Node y);

  std::vector<CudnnDescriptor> parts_;  // tensors and settings, which operations refer to
  std::vector<CudnnDescriptor> operations_;
  std::int64_t next_inner_ = std::int64_t{1} << 32;
};

// A compiled graph.
class CudnnPlan {
 public:
  // By the first engine of the heuristics that gives the same bits at every call and compiles; none: cuDNN
  // cannot run the graph there.
  static std::optional<CudnnPlan> find(CudnnGraph graph, const CudnnTarget& target);

  std::size_t workspace_bytes() const { return workspace_bytes_; }
  std::int64_t engine() const { return engine_id_; }  // cuDNN's number of it, for this graph
  struct Binding {
    std::int64_t id;
    void* data;  // on the device; on the host for a scalar
  };
  // On the stream that `handle` has. `workspace`: workspace_bytes() on the device, on 256 bytes.
  void execute(cudnnHandle_t handle, std::span<const Binding> bindings, void* workspace) const;

 private:
  CudnnPlan(CudnnGraph graph, const CudnnTarget& target);
  bool compile(CudnnDescriptor engine, const CudnnTarget& target);

  CudnnGraph graph_;
  CudnnDescriptor whole_, engine_, plan_;
  std::size_t workspace_bytes_ = 0;
  std::int64_t engine_id_ = -1;
};

}  // namespace jevons::cuda
