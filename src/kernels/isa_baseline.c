/* The kernels for what every processor of the platform has: SSE2 on x86-64, NEON on aarch64. */
#define NNK_ISA baseline
#define NNK_VECTOR_BYTES 16
#include "kernels/isa.h"
