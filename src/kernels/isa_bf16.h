/* What multiplies bfloat16 by instructions of its own, beside the kernels of AVX-512, which do all else: an isa_*.c defines
 * NNK_ISA, NNK_BF16_PAIRS and, for AMX, NNK_BF16_TILES, and includes this file.
 */
#define NNK_VECTOR_BYTES 64
#include "kernels/compiler.h"

#define REAL float
#define REAL_BITS 32
#define NAME(x) x##_f32
#include "kernels/simd.h"
#include "kernels/transpose.h"
#include "kernels/gemm_parameters.h"

#ifdef NNK_BF16_TILES
#include "kernels/amx_tiles.h"
#define MICRO_ROWS(left) ((left) < MR ? (left) : MR)
#define MACRO_KERNEL multiply_panel
#else
/* a is a vector of pairs, b one pair */
#define MICRO_MULTIPLY_ADD(sum, a, b) MULTIPLY_PAIRS(sizeof(a), sum, a, b)
#define MULTIPLY_PAIRS(bytes, sum, a, b)                                                                               \
    __builtin_choose_expr(bytes == 64, add_products(&(sum), &(a), b), add_products_of_half(&(sum), &(a), b))
NNK_INLINE void add_products(void *sum, const void *a, real b)
{
    const __m512 all = _mm512_set1_ps(b);
    *(__m512 *)sum = _mm512_dpbf16_ps(*(__m512 *)sum, *(const __m512bh *)a, *(const __m512bh *)&all);
}
NNK_INLINE void add_products_of_half(void *sum, const void *a, real b)
{
    const __m256 all = _mm256_set1_ps(b);
    *(__m256 *)sum = _mm256_dpbf16_ps(*(__m256 *)sum, *(const __m256bh *)a, *(const __m256bh *)&all);
}
#include "kernels/gemm_microkernels.h"
#define MICRO_ROWS NAME(micro_rows)
#define MACRO_KERNEL NAME(macro_kernel)
#endif

extern const nnk_tables nnk_tables_avx512;
#define FLOAT32_GEMM nnk_tables_avx512.f32->gemm
#define FLOAT32_GEMM_BLOCK nnk_tables_avx512.f32->gemm_block
#include "kernels/bf16_packing.h"
#include "kernels/gemm_bf16.h"

#define NNK_PRODUCTS__(isa) nnk_bf16_products_##isa
#define NNK_PRODUCTS_(isa) NNK_PRODUCTS__(isa)
const nnk_bf16_products NNK_PRODUCTS_(NNK_ISA) = {NNK_STRING(NNK_ISA), gemm_bf16_f32, gemm_block_bf16_f32};
