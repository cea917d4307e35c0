// Matrices whose elements lie on several ranks, as shards of ZeRO-1 and parts of tp have them, each whole on
// one rank for a computation that needs all of it, and back. Which rank that is changes no bit: the matrix is
// computed as it would be on one rank alone. State stays in equal shards of elements; what of a matrix lies
// elsewhere travels, and one that lies on one rank does not (Moonlight, arXiv:2502.16982, section 2.3,
// gathers every matrix on every rank).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/core/context.h"
#include "parallel/grad_reducer.h"
#include "parallel/param_store.h"

namespace jevons {

class WholeMatrices {
 public:
  // Of the weights of two dims that `takes`, as ParamSpec::row_blocks divides them. The store must be
  // allocated and outlive this.
  WholeMatrices(ParamStore& store, const GradReducer& reducer,
                const std::function<bool(const ParamSpec&)>& takes);

  // f of each matrix that this rank is the owner of: (rows, cols), accumulator dtype, changed in place. It is
  // made of the gradients within the update ranges of all ranks, and they become what f made of it. With ZeRO
  // stage 0, where every rank has all sums, every rank does all that tp leaves on it. Collective.
  void for_each(const Context& ctx, const std::function<void(Tensor)>& f) const;

 private:
  // What rank `peer` has of a matrix, or gets: `numel` elements, from `begin` on in the gradients or in the
  // matrix, from `at` on in the message.
  struct Move {
    int peer = 0;
    std::int64_t begin = 0, numel = 0, at = 0;
  };
  // One that this rank owns. Its parts of equal columns lie one after another in what pieces make.
  struct Owned {
    std::int64_t rows = 0, cols = 0;
    int column_parts = 1;
    std::vector<Move> pieces;  // one: its elements in the gradients
  };
  // Of one ParamGroup.
  struct Plan {
    std::size_t group = 0;
    Communicator* comm = nullptr;  // the ranks that hold pieces; null: this one alone
    std::vector<Owned> here, gathered;
    std::vector<Move> sent;  // pieces of others' and of gathered matrices, by owner
    std::vector<std::int64_t> send_counts,
        recv_counts;  // elements, of each rank of comm; empty: none anywhere
  };
  // While owners are being chosen.
  struct Matrix;
  static std::vector<Matrix> matrices_of(const Param& param, int parts, std::int64_t shard);
  static void choose_owners(std::vector<std::vector<Matrix>>& of_plans, const std::vector<Plan>& plans);
  static void complete(Plan& plan, const std::vector<Matrix>& matrices);

  void exchange(const Context& ctx, const Plan& plan, const std::function<void(Tensor)>& f) const;

  ParamStore& store_;
  std::vector<Plan> plans_;
};

}  // namespace jevons
