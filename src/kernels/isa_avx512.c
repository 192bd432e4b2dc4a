/* The kernels for AVX-512 F, BW, DQ, VL. */
#define NNK_ISA avx512
#define NNK_VECTOR_BYTES 64
#include "kernels/isa.h"
