/* Products of int8 by AVX512_VNNI's instruction for four bytes. */
#define NNK_ISA avx512_vnni
#define NNK_INT8
#include "kernels/isa_reduced.h"
