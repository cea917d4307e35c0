// Paths as users give them.
#pragma once

#include <string>
#include <string_view>

namespace jevons {

// Why `path` is not meant as it stands: a shell would have put something in the place of a leading ~ or of
// $NAME, and this program, like others, does not; a directory called ~ would be made. Empty: nothing of that
// kind.
std::string unexpanded_in(std::string_view path);

}  // namespace jevons
