/* Products of bfloat16 by AVX512_BF16's instruction for pairs. */
#define NNK_ISA avx512_bf16
#define NNK_BF16_PAIRS
#include "kernels/isa_reduced.h"
