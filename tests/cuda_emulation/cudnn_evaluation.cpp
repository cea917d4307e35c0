#include "cudnn_evaluation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/core/dtype.h"
#include "stand_in.h"

namespace emulation {
namespace {

// A tensor of a graph, row-major in the order of its dims.
struct Values {
  std::int64_t dims[4], strides[4];
  cudnnDataType_t type;
  std::vector<float> data;

  explicit Values(const Descriptor& tensor) : type(tensor.get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE)) {
    for (std::size_t d = 0; d < 4; ++d) {
      dims[d] = tensor.get<std::int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS, d);
      strides[d] = tensor.get<std::int64_t>(CUDNN_ATTR_TENSOR_STRIDES, d);
    }
    data.resize(static_cast<std::size_t>(dims[0] * dims[1] * dims[2] * dims[3]));
  }
  std::size_t at(const std::int64_t (&i)[4]) const {
    return static_cast<std::size_t>(((i[0] * dims[1] + i[1]) * dims[2] + i[2]) * dims[3] + i[3]);
  }
  std::size_t offset(const std::int64_t (&i)[4]) const {
    return static_cast<std::size_t>(i[0] * strides[0] + i[1] * strides[1] + i[2] * strides[2] +
                                    i[3] * strides[3]);
  }
  // The element that belongs to index `i` of a tensor of dims `of`: a dim of 1 serves all, one of fewer heads
  // a group.
  std::size_t shared_at(const std::int64_t (&i)[4], const std::int64_t (&of)[4]) const {
    std::int64_t own[4];
    for (int d = 0; d < 4; ++d) own[d] = i[d] * dims[d] / of[d];
    return at(own);
  }
  template <class F>
  void each(F f) const {
    std::int64_t i[4];
    for (i[0] = 0; i[0] < dims[0]; ++i[0])
      for (i[1] = 0; i[1] < dims[1]; ++i[1])
        for (i[2] = 0; i[2] < dims[2]; ++i[2])
          for (i[3] = 0; i[3] < dims[3]; ++i[3]) f(i);
  }
};

std::size_t element_bytes(cudnnDataType_t type) {
  return type == CUDNN_DATA_BFLOAT16 ? 2 : 4;
}

// Evaluates one execution of a graph.
class Evaluation {
 public:
  Evaluation(std::map<std::int64_t, char*> memory, std::map<std::int64_t, float> scalars)
      : memory_(std::move(memory)), scalars_(std::move(scalars)) {}

  void run(const Descriptor& graph) {
    const std::size_t count =
        graph.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).size() / sizeof(const Descriptor*);
    for (std::size_t i = 0; i < count; ++i) run_operation(graph.child(CUDNN_ATTR_OPERATIONGRAPH_OPS, i));
  }

 private:
  const Values& value(const Descriptor& tensor) {
    if (const auto known = values_.find(&tensor); known != values_.end()) return known->second;
    Values& v = values_.emplace(&tensor, Values(tensor)).first->second;
    const auto id = tensor.get<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
    if (const auto scalar = scalars_.find(id); scalar != scalars_.end()) {
      v.data[0] = scalar->second;
      return v;
    }
    const char* const from = memory_.at(id);
    const std::size_t size = element_bytes(v.type);
    v.each([&](const auto& i) {
      const char* const element = from + v.offset(i) * size;
      check_operation_access(element, size, Access::kRead);
      v.data[v.at(i)] = v.type == CUDNN_DATA_BFLOAT16 ? float(load<jevons::bf16>(element))
                        : v.type == CUDNN_DATA_INT32  ? static_cast<float>(load<std::int32_t>(element))
                                                      : load<float>(element);
    });
    return v;
  }
  template <class T>
  static T load(const char* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }

  // Keeps a result for the operations behind and, if it is the caller's, writes it.
  void keep(const Descriptor& tensor, Values v) {
    if (v.type == CUDNN_DATA_BFLOAT16) {
      for (float& x : v.data) x = float(jevons::bf16(x));
    }
    if (!tensor.get<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL)) {
      char* const to = memory_.at(tensor.get<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID));
      const std::size_t size = element_bytes(v.type);
      v.each([&](const auto& i) {
        char* const element = to + v.offset(i) * size;
        check_operation_access(element, size, Access::kWrite);
        const float x = v.data[v.at(i)];
        const jevons::bf16 rounded(x);
        std::memcpy(element, v.type == CUDNN_DATA_BFLOAT16 ? static_cast<const void*>(&rounded) : &x, size);
      });
    }
    values_.insert_or_assign(&tensor, std::move(v));
  }

  void run_operation(const Descriptor& op) {
    switch (op.type) {
      case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        return pointwise(op);
      case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        return matmul(op);
      case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        return reduce(op);
      default:
        return reshape(op);
    }
  }

  void pointwise(const Descriptor& op) {
    const Descriptor& how = op.child(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    const auto mode = how.get<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
    const Descriptor& to = op.child(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    Values y(to);
    if (mode == CUDNN_POINTWISE_GEN_INDEX) {
      const auto axis = how.get<std::int64_t>(CUDNN_ATTR_POINTWISE_AXIS);
      y.each([&](const auto& i) { y.data[y.at(i)] = static_cast<float>(i[axis]); });
      return keep(to, std::move(y));
    }
    const Values* const x = &value(op.child(CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
    const Values* const b = op.has(CUDNN_ATTR_OPERATION_POINTWISE_BDESC)
                                ? &value(op.child(CUDNN_ATTR_OPERATION_POINTWISE_BDESC))
                                : x;
    const Values* const t = op.has(CUDNN_ATTR_OPERATION_POINTWISE_TDESC)
                                ? &value(op.child(CUDNN_ATTR_OPERATION_POINTWISE_TDESC))
                                : x;
    y.each([&](const auto& i) {
      y.data[y.at(i)] = apply(mode, x->data[x->shared_at(i, y.dims)], b->data[b->shared_at(i, y.dims)],
                              t->data[t->shared_at(i, y.dims)]);
    });
    keep(to, std::move(y));
  }
  static float apply(cudnnPointwiseMode_t mode, float x, float b, float t) {
    switch (mode) {
      case CUDNN_POINTWISE_MUL:
        return x * b;
      case CUDNN_POINTWISE_ADD:
        return x + b;
      case CUDNN_POINTWISE_SUB:
        return x - b;
      case CUDNN_POINTWISE_DIV:
        return x / b;
      case CUDNN_POINTWISE_EXP:
        return std::exp(x);
      case CUDNN_POINTWISE_LOG:
        return std::log(x);
      case CUDNN_POINTWISE_CMP_GE:
        return x >= b ? 1 : 0;
      case CUDNN_POINTWISE_CMP_LT:
        return x < b ? 1 : 0;
      case CUDNN_POINTWISE_BINARY_SELECT:
        return t != 0 ? x : b;
      case CUDNN_POINTWISE_IDENTITY:
        return x;
      default:
        return NAN;
    }
  }

  void matmul(const Descriptor& op) {
    const Values& a = value(op.child(CUDNN_ATTR_OPERATION_MATMUL_ADESC));
    const Values& b = value(op.child(CUDNN_ATTR_OPERATION_MATMUL_BDESC));
    const Descriptor& to = op.child(CUDNN_ATTR_OPERATION_MATMUL_CDESC);
    Values c(to);
    c.each([&](const auto& i) {
      float sum = 0;
      for (std::int64_t k = 0; k < a.dims[3]; ++k) {
        const std::int64_t in_a[4] = {i[0], i[1] * a.dims[1] / c.dims[1], i[2], k};
        const std::int64_t in_b[4] = {i[0], i[1] * b.dims[1] / c.dims[1], k, i[3]};
        sum += a.data[a.at(in_a)] * b.data[b.at(in_b)];
      }
      c.data[c.at(i)] = sum;
    });
    keep(to, std::move(c));
  }

  void reduce(const Descriptor& op) {
    const bool max =
        op.child(CUDNN_ATTR_OPERATION_REDUCTION_DESC)
            .get<cudnnReduceTensorOp_t>(CUDNN_ATTR_REDUCTION_OPERATOR) == CUDNN_REDUCE_TENSOR_MAX;
    const Values& x = value(op.child(CUDNN_ATTR_OPERATION_REDUCTION_XDESC));
    const Descriptor& to = op.child(CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
    Values y(to);
    y.data.assign(y.data.size(), max ? -INFINITY : 0);
    x.each([&](const auto& i) {
      float& result = y.data[y.shared_at(i, x.dims)];
      result = max ? std::max(result, x.data[x.at(i)]) : result + x.data[x.at(i)];
    });
    keep(to, std::move(y));
  }

  // The same memory under other dims and strides.
  void reshape(const Descriptor& op) {
    const Values& x = value(op.child(CUDNN_ATTR_OPERATION_RESHAPE_XDESC));
    const Descriptor& to = op.child(CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
    std::map<std::size_t, float> memory;
    x.each([&](const auto& i) { memory[x.offset(i)] = x.data[x.at(i)]; });
    Values y(to);
    y.each([&](const auto& i) { y.data[y.at(i)] = memory.at(y.offset(i)); });
    keep(to, std::move(y));
  }

  std::map<std::int64_t, char*> memory_;
  std::map<std::int64_t, float> scalars_;
  std::map<const Descriptor*, Values> values_;
};

}  // namespace

void evaluate(const Descriptor& graph, const std::map<std::int64_t, char*>& memory,
              const std::map<std::int64_t, float>& scalars) {
  Evaluation(memory, scalars).run(graph);
}

}  // namespace emulation
