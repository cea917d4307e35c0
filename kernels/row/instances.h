// Every row kernel that a facade launches, by family. A device back end compiles its launcher for each:
//   #define LAUNCHER(...) template void launch_rows(..., const __VA_ARGS__&);
//   JEVONS_NORM_KERNELS(LAUNCHER)
// A kernel that is missing here does not link.
#pragma once

#define JEVONS_FOR_FLOATS(X, Kernel) X(Kernel<float>) X(Kernel<bf16>) X(Kernel<double>)
#define JEVONS_FOR_ACCUMULATORS(X, Kernel) X(Kernel<float>) X(Kernel<double>)
// clang-format off
#define JEVONS_FOR_FLOAT_PAIRS(X, Kernel)                                     \
  X(Kernel<float, float>)  X(Kernel<float, bf16>)  X(Kernel<float, double>)   \
  X(Kernel<bf16, float>)   X(Kernel<bf16, bf16>)   X(Kernel<bf16, double>)    \
  X(Kernel<double, float>) X(Kernel<double, bf16>) X(Kernel<double, double>)
// clang-format on
// Accumulator and working weight.
#define JEVONS_FOR_WEIGHTS(X, Kernel) X(Kernel<float, float>) X(Kernel<float, bf16>) X(Kernel<double, double>)

#define JEVONS_ACTIVATION_KERNELS(X) \
  JEVONS_FOR_FLOATS(X, SwigluKernel) \
  JEVONS_FOR_FLOATS(X, SwigluBackwardKernel)

#define JEVONS_BALANCE_KERNELS(X)   \
  X(ColumnSumsKernel<std::int64_t>) \
  JEVONS_FOR_ACCUMULATORS(X, BalanceWeightsKernel)

#define JEVONS_CROSS_ENTROPY_KERNELS(X)                 \
  JEVONS_FOR_FLOATS(X, CrossEntropyStatsKernel)         \
  JEVONS_FOR_ACCUMULATORS(X, CrossEntropyCombineKernel) \
  JEVONS_FOR_FLOATS(X, CrossEntropyBackwardKernel)

#define JEVONS_ELEMENTWISE_KERNELS(X)             \
  X(FillZeroKernel)                               \
  X(CopyKernel)                                   \
  JEVONS_FOR_FLOAT_PAIRS(X, CastKernel)           \
  JEVONS_FOR_FLOATS(X, AddKernel)                 \
  JEVONS_FOR_FLOAT_PAIRS(X, AddScaledKernel)      \
  JEVONS_FOR_FLOATS(X, ScaleKernel)               \
  JEVONS_FOR_FLOATS(X, SumOfSquaresKernel)        \
  JEVONS_FOR_ACCUMULATORS(X, AddColumnSumsKernel) \
  JEVONS_FOR_FLOATS(X, CountNonfiniteKernel)

#define JEVONS_EMBEDDING_KERNELS(X)             \
  X(EmbeddingKernel)                            \
  X(SortTokensKernel)                           \
  JEVONS_FOR_FLOATS(X, EmbeddingBackwardKernel) \
  JEVONS_FOR_FLOATS(X, EmbeddingBackwardSortedKernel)

#define JEVONS_NORM_KERNELS(X)           \
  JEVONS_FOR_FLOATS(X, RmsNormKernel)    \
  JEVONS_FOR_FLOATS(X, AddRmsNormKernel) \
  JEVONS_FOR_FLOATS(X, RmsNormBackwardKernel)

#define JEVONS_REDUCE_KERNELS(X) JEVONS_FOR_ACCUMULATORS(X, ColumnSumsKernel)

#define JEVONS_OPTIMIZER_KERNELS(X)  \
  JEVONS_FOR_WEIGHTS(X, AdamWKernel) \
  JEVONS_FOR_WEIGHTS(X, SgdKernel)

#define JEVONS_PERMUTE_KERNELS(X) \
  X(GatherRowsKernel)             \
  JEVONS_FOR_FLOATS(X, SumRowsKernel)

#define JEVONS_ROPE_KERNELS(X)     \
  JEVONS_FOR_FLOATS(X, RopeKernel) \
  X(TokenPositionsKernel)

#define JEVONS_ROUTING_KERNELS(X)                     \
  JEVONS_FOR_ACCUMULATORS(X, RouterKernel)            \
  JEVONS_FOR_ACCUMULATORS(X, RouterBackwardKernel)    \
  X(RoutingCountsKernel)                              \
  JEVONS_FOR_ACCUMULATORS(X, ScoreScaleKernel)        \
  JEVONS_FOR_ACCUMULATORS(X, ScoreSumsKernel)         \
  JEVONS_FOR_ACCUMULATORS(X, ScoreSumsBackwardKernel) \
  JEVONS_FOR_ACCUMULATORS(X, ZLossKernel)             \
  JEVONS_FOR_ACCUMULATORS(X, ZLossBackwardKernel)     \
  JEVONS_FOR_ACCUMULATORS(X, EntropyKernel)

#define JEVONS_SLOT_KERNELS(X) \
  X(ColumnScanKernel)          \
  X(ExpertCountsKernel)        \
  X(SlotRanksKernel)           \
  X(SlotListsKernel)           \
  X(SlotMessageKernel)         \
  X(SourcesKernel)             \
  X(EmptyListKernel)           \
  X(NoteCountsKernel)          \
  X(ExpertRowsKernel)          \
  X(MisfitsKernel)             \
  X(FirstMisfitKernel)         \
  X(ReduceIndexKernel)         \
  X(MapIndicesKernel)

#define JEVONS_ROW_KERNELS(X)     \
  JEVONS_ACTIVATION_KERNELS(X)    \
  JEVONS_BALANCE_KERNELS(X)       \
  JEVONS_CROSS_ENTROPY_KERNELS(X) \
  JEVONS_ELEMENTWISE_KERNELS(X)   \
  JEVONS_EMBEDDING_KERNELS(X)     \
  JEVONS_NORM_KERNELS(X)          \
  JEVONS_OPTIMIZER_KERNELS(X)     \
  JEVONS_PERMUTE_KERNELS(X)       \
  JEVONS_REDUCE_KERNELS(X)        \
  JEVONS_ROPE_KERNELS(X)          \
  JEVONS_ROUTING_KERNELS(X)       \
  JEVONS_SLOT_KERNELS(X)
