#include "kernels/core/error.h"

#include <cstring>

namespace jevons::detail {

void ensure_failed(const char* condition, const std::string& message, std::source_location place) {
  const char* slash = std::strrchr(place.file_name(), '/');
  const char* file = slash != nullptr ? slash + 1 : place.file_name();
  throw Error(ExitCode::kFailure, fmt::format("{} [{}:{}: {}]", message, file, place.line(), condition));
}

}  // namespace jevons::detail
