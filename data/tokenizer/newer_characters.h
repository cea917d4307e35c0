// Characters that the expression library may be too old for. Every release of Unicode assigns characters, and
// a release of PCRE2 takes those it does not know for none of letter, digit, mark and symbol; so tokens would
// depend on the machine. In what an expression sees they are replaced by older characters of the same
// category.
#pragma once

#include <string>
#include <string_view>

namespace jevons {

// `text`, or `copy`: the same with characters of Unicode 15.0, 15.1 and 16.0 replaced by some of Unicode 14
// with equal category and equal size in UTF-8 (Han characters by Han characters), so that places are the
// same.
std::string_view with_older_characters(std::string_view text, std::string& copy);

// Whether a normal form must leave it as it is. Hugging Face's tokenizers, by which models are trained, have
// the normal forms of Unicode 12.0, in which later characters are nothing special.
bool later_in_normal_forms(char32_t c);

}  // namespace jevons
