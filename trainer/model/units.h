// Units of the ParamStore, and layers, as a pass goes through them.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/core/whereabouts.h"
#include "parallel/param_store.h"

namespace jevons {

// Told of a unit of the ParamStore to whose gradients a pass has added all that it adds. Not of the
// embedding's, with which the pass ends: there is nothing left beside which its sum could travel.
using UnitDone = std::function<void(std::int64_t unit)>;

inline void tell(const UnitDone& done, std::int64_t unit) {
  if (done) done(unit);
}

// While a unit's weights are read.
class UnitScope {
 public:
  UnitScope(ParamStore& store, std::int64_t unit) : store_(store), unit_(unit) { store_.enter(unit_); }
  ~UnitScope() { store_.leave(unit_); }
  UnitScope(const UnitScope&) = delete;
  UnitScope& operator=(const UnitScope&) = delete;

 private:
  ParamStore& store_;
  std::int64_t unit_;
};

inline void note_layer(const Context& ctx, Pass pass, std::int64_t layer) {
  if (ctx.whereabouts != nullptr) ctx.whereabouts->layer(pass, layer);
}

}  // namespace jevons
