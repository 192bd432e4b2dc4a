/* The kernels for AVX2 with FMA. */
#define NNK_ISA avx2
#define NNK_VECTOR_BYTES 32
#include "kernels/isa.h"
