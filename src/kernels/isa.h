/* Everything that is compiled once per instruction set: an isa_*.c defines NNK_ISA and NNK_VECTOR_BYTES and includes this
 * file, which includes the bodies once per precision and fills the table. All functions are static, so that no code made
 * for one instruction set can be linked into another's.
 */
#include "kernels/compiler.h"
#include "kernels/sums.h"

#define NNK_TABLES__(isa) nnk_tables_##isa
#define NNK_TABLES_(isa) NNK_TABLES__(isa)

#include "kernels/philox.h"
#include "kernels/philox_vectors.h"

#define REAL float
#define REAL_BITS 32
#define NAME(x) x##_f32
#include "kernels/bodies.h"
#undef REAL
#undef REAL_BITS
#undef NAME

#define REAL double
#define REAL_BITS 64
#define NAME(x) x##_f64
#include "kernels/bodies.h"
#undef REAL
#undef REAL_BITS
#undef NAME

static const nnk_reduced reduced = {
    "float32",
    gemm_bf16_f32,
    gemm_block_bf16_f32,
    {NULL},
    {sum_rounded_columns_f32, add_to_rounded_columns_f32, add_products_of_rounded_columns_f32, sum_rounded_sparse_f32,
     add_to_rounded_sparse_f32},
};
const nnk_tables NNK_TABLES_(NNK_ISA) = {NNK_STRING(NNK_ISA), NNK_VECTOR_BYTES, &table_f32, &table_f64, &reduced};
