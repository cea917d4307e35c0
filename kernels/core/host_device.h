// JEVONS_HD marks a function that the host and a CUDA device run alike; a plain C++ compiler sees nothing.
#pragma once

#ifdef __CUDACC__
#define JEVONS_HD __host__ __device__
#else
#define JEVONS_HD
#endif
