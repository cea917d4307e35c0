#!/usr/bin/env bash
# What only tests need is hidden: the build files of the program are made all the same, with a GPU back end where there is
# a toolkit and without, and a build that was asked for tests says what is missing. scripts/fresh_machine builds for real.
# usage: configure_bare.sh SOURCE
set -uo pipefail
source=$1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
fail() { echo "configure_bare: $1" >&2; cat "$tree/log" >&2; exit 1; }

configure() {
  local hidden=()
  for package in Catch2 Boost benchmark Python Python3; do hidden+=("-DCMAKE_DISABLE_FIND_PACKAGE_$package=ON"); done
  rm -rf "$tree/build"
  cmake -S "$source" -B "$tree/build" -G Ninja "${hidden[@]}" "$@" >"$tree/log" 2>&1
}

for cuda in AUTO OFF; do
  configure "-DJEVONS_CUDA=$cuda" || fail "JEVONS_CUDA=$cuda: it does not configure"
  grep -q 'Tests: off, not found: Catch2' "$tree/log" || fail "JEVONS_CUDA=$cuda: it does not say that tests are left out"
  ninja -C "$tree/build" -t commands jevons >"$tree/log" 2>&1 || fail "JEVONS_CUDA=$cuda: no way to build jevons"
  grep -q ' -o jevons ' "$tree/log" || fail "JEVONS_CUDA=$cuda: jevons is not linked"
done
# An nvcc that does not work with this compiler, or for these architectures, is none.
configure -DJEVONS_NVCC="$(command -v false)" || fail "an nvcc that fails: it does not configure"
grep -q 'CUDA back end: off, not found' "$tree/log" || fail "an nvcc that fails is taken for one"
configure -DJEVONS_TESTS=ON -DJEVONS_CUDA=OFF && fail "JEVONS_TESTS=ON: it configures without Catch2"
grep -q 'not found: Catch2' "$tree/log" || fail "JEVONS_TESTS=ON: it does not name Catch2"
echo "configure_bare: good"
