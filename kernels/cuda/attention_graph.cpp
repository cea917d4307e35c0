#include "kernels/cuda/attention_graph.h"

namespace jevons::cuda {
namespace {

using Node = CudnnGraph::Node;

// Builds one graph. Inner values are named by shape: square (batch, heads, q_len, kv_len), column (batch,
// heads, q_len, 1).
class Builder {
 public:
  explicit Builder(const AttentionProblem& problem) : p_(problem) {}

  CudnnGraph forward() {
    const Node scores = causal(inside_documents(scaled_scores()));
    const Node max = graph_.reduce(CUDNN_REDUCE_TENSOR_MAX, scores, column());
    const Node shifted = graph_.pointwise(CUDNN_POINTWISE_SUB, scores, max, square());
    const Node powers = graph_.pointwise(CUDNN_POINTWISE_EXP, shifted, square());
    const Node sum = graph_.reduce(CUDNN_REDUCE_TENSOR_ADD, powers, column());
    const Node log_sum = graph_.pointwise(CUDNN_POINTWISE_LOG, sum, column());
    graph_.pointwise(CUDNN_POINTWISE_ADD, log_sum, max, lse());
    const Node p = graph_.pointwise(CUDNN_POINTWISE_DIV, powers, sum, square(CUDNN_DATA_BFLOAT16));
    graph_.matmul(p, keys(p_.v_dim, p_.v, kV), queries(p_.v_dim, p_.o, kO));
    return std::move(graph_);
  }

  CudnnGraph backward() {
    const Node d_o = queries(p_.v_dim, p_.d_o, kDO);
    const Node delta = row_sums(d_o);
    const Node shifted =
        causal(graph_.pointwise(CUDNN_POINTWISE_SUB, inside_documents(scaled_scores()), lse(), square()));
    const Node p = graph_.pointwise(CUDNN_POINTWISE_EXP, shifted, square());
    gradient_of_shared(p, d_o, p_.v_dim, keys(p_.v_dim, p_.dv, kDv));

    const Node dp = graph_.matmul(d_o, transposed_keys(p_.v_dim, p_.v, kV), square());
    const Node centred = graph_.pointwise(CUDNN_POINTWISE_SUB, dp, delta, square());
    const Node weighted = graph_.pointwise(CUDNN_POINTWISE_MUL, centred, p, square());
    const Node ds = graph_.pointwise(CUDNN_POINTWISE_MUL, weighted, scale_, square());
    gradient_of_shared(ds, q_, p_.dim, keys(p_.dim, p_.dk, kDk));
    const Node k = graph_.reshape(k_, keys(p_.dim, p_.k, 0));
    graph_.matmul(ds, k, queries(p_.dim, p_.dq, kDq));
    return std::move(graph_);
  }

 private:
  // A value for every query head of `rows` rows, one behind another.
  Node packed(std::int64_t rows, std::int64_t last, cudnnDataType_t type, std::int64_t id = 0) {
    const std::int64_t h = p_.heads;
    return graph_.tensor({{p_.batch, h, rows, last}, {h * rows * last, rows * last, last, 1}, type, id});
  }
  Node square(cudnnDataType_t type = CUDNN_DATA_FLOAT) { return packed(p_.q_len, p_.kv_len, type); }
  Node column(std::int64_t id = 0) { return packed(p_.q_len, 1, CUDNN_DATA_FLOAT, id); }
  Node lse() {
    return graph_.tensor({{p_.batch, p_.heads, p_.q_len, 1},
                          {p_.q_len * p_.lse_row, 1, p_.lse_row, 1},
                          CUDNN_DATA_FLOAT,
                          kLse,
                          sizeof(float)});
  }
  // Heads inside the rows of a matrix: (batch, heads, q_len, dim), (batch, kv_heads, kv_len, dim), and this
  // with the last two dims exchanged.
  Node queries(std::int64_t dim, const HeadStrides& in, std::int64_t id) {
    return graph_.tensor({{p_.batch, p_.heads, p_.q_len, dim},
                          {p_.q_len * in.row, in.head, in.row, 1},
                          CUDNN_DATA_BFLOAT16,
                          id});
  }
  Node keys(std::int64_t dim, const HeadStrides& in, std::int64_t id) {
    return graph_.tensor({{p_.batch, p_.kv_heads, p_.kv_len, dim},
                          {p_.kv_len * in.row, in.head, in.row, 1},
                          CUDNN_DATA_BFLOAT16,
                          id});
  }
  Node transposed_keys(std::int64_t dim, const HeadStrides& in, std::int64_t id) {
    return graph_.tensor({{p_.batch, p_.kv_heads, dim, p_.kv_len},
                          {p_.kv_len * in.row, in.head, 1, in.row},
                          CUDNN_DATA_BFLOAT16,
                          id});
  }

  Node scaled_scores() {
    q_ = queries(p_.dim, p_.q, kQ);
    k_ = transposed_keys(p_.dim, p_.k, kK);
    scale_ = graph_.scalar(kScale);
    lowest_ = graph_.scalar(kLowest);
    return graph_.pointwise(CUDNN_POINTWISE_MUL, graph_.matmul(q_, k_, square()), scale_, square());
  }

  // The lowest number where a key comes after its query.
  Node causal(Node scores) {
    const Node row = positions(graph_.index(scores, 2, square(CUDNN_DATA_INT32)));
    const Node col = graph_.index(scores, 3, square(CUDNN_DATA_INT32));
    const Node visible = graph_.pointwise(CUDNN_POINTWISE_CMP_GE, row, col, square(CUDNN_DATA_BOOLEAN));
    return graph_.select(visible, scores, lowest_, square());
  }

  // Of queries, counted from the first key: queries end where keys do. The sum and the difference that
  // cuDNN's engines know as a causal mask from the lower right corner.
  Node positions(Node row) {
    if (p_.q_len == p_.kv_len) return row;
    const Node from_end = graph_.pointwise(CUDNN_POINTWISE_ADD, row, graph_.scalar(kKvLen, CUDNN_DATA_INT32),
                                           square(CUDNN_DATA_INT32));
    return graph_.pointwise(CUDNN_POINTWISE_SUB, from_end, graph_.scalar(kQLen, CUDNN_DATA_INT32),
                            square(CUDNN_DATA_INT32));
  }

  // Added to the scores, as cuDNN's engines take a bias. A comparison with a vector of document ends, which
  // their forward takes, gives wrong gradients (9.19 on an H100).
  Node inside_documents(Node scores) {
    if (!p_.documents) return scores;
    const std::int64_t q = p_.q_len, row = square_row(p_.kv_len);
    const Node mask = graph_.tensor(
        {{p_.batch, 1, q, p_.kv_len}, {q * row, q * row, row, 1}, CUDNN_DATA_BFLOAT16, kDocMask});
    return graph_.pointwise(CUDNN_POINTWISE_ADD, scores, mask, square());
  }

  Node row_sums(Node d_o) {
    const Node o = queries(p_.v_dim, p_.o, kO);
    const Node products =
        graph_.pointwise(CUDNN_POINTWISE_MUL, d_o, o, packed(p_.q_len, p_.v_dim, CUDNN_DATA_FLOAT));
    const Node sums = graph_.reduce(CUDNN_REDUCE_TENSOR_ADD, products, column());
    return graph_.pointwise(CUDNN_POINTWISE_MUL, sums, graph_.scalar(kOne), column(kDelta));
  }

  // result = sum over the query heads of a group of square^T x.
  void gradient_of_shared(Node square_value, Node x, std::int64_t dim, Node result) {
    const std::int64_t h = p_.heads, q = p_.q_len, k = p_.kv_len;
    const Node turned =
        graph_.tensor({{p_.batch, h, k, q}, {h * q * k, q * k, 1, k}, CUDNN_DATA_BFLOAT16, 0});
    if (p_.heads == p_.kv_heads) {
      graph_.matmul(graph_.reshape(square_value, turned), x, result);
      return;
    }
    const Node per_head =
        graph_.matmul(graph_.reshape(square_value, turned), x, packed(k, dim, CUDNN_DATA_BFLOAT16));
    graph_.reduce(CUDNN_REDUCE_TENSOR_ADD, per_head, result);
  }

  const AttentionProblem& p_;
  CudnnGraph graph_;
  Node q_ = nullptr, k_ = nullptr, scale_ = nullptr, lowest_ = nullptr;
};

}  // namespace

CudnnGraph attention_forward_graph(const AttentionProblem& problem) {
  return Builder(problem).forward();
}

CudnnGraph attention_backward_graph(const AttentionProblem& problem) {
  return Builder(problem).backward();
}

}  // namespace jevons::cuda
