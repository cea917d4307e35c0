// Stands in for the CUDA device language when a C++ compiler compiles a .cu file (kernels/cuda/gpu.h includes
// this).
#pragma once

#include "device_functions.h"
#include "device_language.h"
#include "warp_functions.h"
