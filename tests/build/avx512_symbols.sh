#!/usr/bin/env bash
# Files for AVX-512 define no function that another file may define too: the linker keeps one of the copies, and if that is
# theirs, a program for any CPU has AVX-512 where no check of the CPU stands before it.
# usage: avx512_symbols.sh OBJECT...
set -euo pipefail
shared=$(nm -C --defined-only "$@" | grep -E ' [WVu] ' | grep -v avx512 || true)
[ -z "$shared" ] || { printf 'defined in files for AVX-512, and perhaps elsewhere:\n%s\n' "$shared"; exit 1; }
echo "avx512_symbols: none is shared, $# objects"
