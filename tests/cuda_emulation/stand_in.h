// For stand-ins of CUDA libraries (cuBLASLt, NCCL): what they need of the emulated GPU.
//   enqueue(stream, operation)                          work in stream order (streams.h)
//   on_device(p, bytes)                                 a range of device memory, or misuse (device_memory.h)
//   check_operation_access(p, bytes, Access::kRead)     inside the operation: tells the checker what it reads
//   and writes misuse(error, what)                                 a wrong call (streams.h)
// The operation itself is host code and may touch device memory, since the GPU runs while it runs.
#pragma once

#include "checker.h"
#include "device_memory.h"
#include "streams.h"
