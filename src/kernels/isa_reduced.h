/* What multiplies reduced numbers by instructions of its own, beside the kernels of AVX-512, which do all else: an isa_*.c
 * defines NNK_ISA and which kinds there are, and includes this file.
 *   NNK_BF16_PAIRS   pairs of bfloat16, for the compute type and for frozen networks
 *   NNK_INT8         four int8, for frozen networks
 *   NNK_BF16_TILES   both by the tiles of AMX
 */
#define NNK_VECTOR_BYTES 64
#include "kernels/compiler.h"

#define REAL float
#define REAL_BITS 32
#define NAME(x) x##_f32
#include "kernels/simd.h"
#include "kernels/transpose.h"
#include "kernels/gemm_parameters.h"
#include "kernels/packed_layout.h"

#ifdef NNK_BF16_TILES
#include "kernels/amx_tiles.h"
#define BEGIN_TILES() configure_tiles()
#define END_TILES() _tile_release()
#define MICRO_ROWS(left) ((left) < MR ? (left) : MR)
#define MACRO_KERNEL(o, rows, nc) multiply_panel(0, o, rows, nc)
#define MULTIPLY_PACKED(weights, o, rows, nc) multiply_panel((weights) == NNK_int8, o, rows, nc)
#else
#define BEGIN_TILES() ((void)0)
#define END_TILES() ((void)0)
/* a is a vector of entries, b one entry */
#define MICRO_MULTIPLY_ADD(sum, a, b)                                                                                  \
    ((sum) = _Generic((sum), vec: add_products, default: add_products_of_half)(sum, a, b))
NNK_INLINE __m512 add_products(__m512 sum, __m512 a, real b)
{
#ifdef NNK_INT8
    return (__m512)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)_mm512_set1_ps(b));
#else
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)_mm512_set1_ps(b));
#endif
}
NNK_INLINE __m256 add_products_of_half(__m256 sum, __m256 a, real b)
{
#ifdef NNK_INT8
    return (__m256)_mm256_dpbusd_epi32((__m256i)sum, (__m256i)a, (__m256i)_mm256_set1_ps(b));
#else
    return _mm256_dpbf16_ps(sum, (__m256bh)a, (__m256bh)_mm256_set1_ps(b));
#endif
}
#ifdef NNK_INT8
/* whole numbers, to which it isn't applied */
#define MICRO_SCALED(alpha, sum) ((void)(alpha), (sum))
#else
#define MICRO_SCALED(alpha, sum) ((alpha) * (sum))
#endif
#include "kernels/gemm_microkernels.h"
#define MICRO_ROWS NAME(micro_rows)
#define MACRO_KERNEL NAME(macro_kernel)
#define MULTIPLY_PACKED(weights, o, rows, nc) NAME(macro_kernel)(o, rows, nc)
#endif

#ifdef NNK_BF16_PAIRS
#include "kernels/bf16_packing.h"
#endif
#include "kernels/gemm_packed.h"
#define NNK_REDUCED__(isa) nnk_reduced_##isa
#define NNK_REDUCED_(isa) NNK_REDUCED__(isa)

#ifdef NNK_INT8
PACKED_PRODUCT(int8)
#define PACKED_INT8 packed_product_int8
#else
#define PACKED_INT8 NULL
#endif
#ifdef NNK_BF16_PAIRS
extern const nnk_tables nnk_tables_avx512;
#define FLOAT32_GEMM nnk_tables_avx512.f32->gemm
#define FLOAT32_GEMM_BLOCK nnk_tables_avx512.f32->gemm_block
#include "kernels/gemm_bf16.h"
PACKED_PRODUCT(bfloat16)
const nnk_reduced NNK_REDUCED_(NNK_ISA) = {
    NNK_STRING(NNK_ISA), NAME(gemm_bf16), NAME(gemm_block_bf16), {NULL, packed_product_bfloat16, PACKED_INT8}, {NULL}};
#else
const nnk_reduced NNK_REDUCED_(NNK_ISA) = {NNK_STRING(NNK_ISA), NULL, NULL, {NULL, NULL, PACKED_INT8}, {NULL}};
#endif
