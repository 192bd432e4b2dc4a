/* Everything that is compiled once per instruction set: an isa_*.c defines NNK_ISA and NNK_VECTOR_BYTES and includes this
 * file, which includes the bodies once per precision and fills the table. All functions are static, so that no code made
 * for one instruction set can be linked into another's.
 */
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#include "nnk.h"

#define NNK_INLINE static inline __attribute__((always_inline))
#define NNK_STRING_(x) #x
#define NNK_STRING(x) NNK_STRING_(x)
#define NNK_TABLES__(isa) nnk_tables_##isa
#define NNK_TABLES_(isa) NNK_TABLES__(isa)

#include "philox.h"
#include "philox_vectors.h"

#define REAL float
#define REAL_BITS 32
#define NAME(x) x##_f32
#include "bodies.h"
#undef REAL
#undef REAL_BITS
#undef NAME

#define REAL double
#define REAL_BITS 64
#define NAME(x) x##_f64
#include "bodies.h"
#undef REAL
#undef REAL_BITS
#undef NAME

const nnk_tables NNK_TABLES_(NNK_ISA) = {NNK_STRING(NNK_ISA), NNK_VECTOR_BYTES, &table_f32, &table_f64};
