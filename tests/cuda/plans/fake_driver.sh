#!/usr/bin/env bash
# Makes a libcuda.so.1 that loads modules without a device, so that cuDNN compiles its kernels and finalizes plans; every
# other function answers CUDA_ERROR_STUB_LIBRARY, as the toolkit's own stub does.
# usage: fake_driver.sh STUB_LIBCUDA OUT_DIR C_COMPILER
set -euo pipefail
stub=$1 out=$2 cc=$3
mkdir -p "$out"
source=$out/fake_driver.c
{
  echo 'static int module;'
  for name in cuLibraryLoadData cuLibraryGetKernel cuKernelGetFunction cuLibraryGetModule; do
    echo "int $name(void** handle) { *handle = &module; return 0; }"
  done
  for name in cuGetErrorString cuGetErrorName; do
    echo "int $name(int error, const char** text) { (void)error; *text = \"fake driver\"; return 0; }"
  done
  echo 'int cuDriverGetVersion(int* version) { *version = 13000; return 0; }'
} >"$source"
nm -D --defined-only "$stub" | awk '$2 == "T" { print $3 }' | while read -r name; do
  grep -q " $name(" "$source" || echo "int $name(void) { return 34; }" >>"$source"
done
"$cc" -shared -fPIC -w "$source" -Wl,-soname,libcuda.so.1 -o "$out/libcuda.so.1"
