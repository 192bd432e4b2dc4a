/* The bodies of one precision, and the undoing of what they define. The order is that of their dependence. */
#include "kernels/simd.h"
#include "kernels/transpose.h"
#include "kernels/vmath.h"
#include "kernels/activations.h"
#include "kernels/losses.h"
#include "kernels/update.h"
#include "kernels/scale.h"
#include "kernels/encode.h"
#include "kernels/gemv.h"
#include "kernels/gemm_parameters.h"
#include "kernels/gemm_microkernels.h"
#include "kernels/gemm_packing.h"
#include "kernels/gemm_inner_product.h"
#include "kernels/gemm.h"
#if REAL_BITS == 32
#define FLOAT32_GEMM NAME(gemm)
#define FLOAT32_GEMM_BLOCK NAME(gemm_block)
#define MICRO_ROWS NAME(micro_rows)
#define MACRO_KERNEL NAME(macro_kernel)
#define BEGIN_TILES() ((void)0)
#define END_TILES() ((void)0)
#include "kernels/bf16_packing.h"
#include "kernels/gemm_bf16.h"
#endif
#include "kernels/codes.h"
#include "kernels/sparse.h"
#include "kernels/packed_layout.h"
#include "kernels/packed.h"
#include "kernels/limit.h"
#include "kernels/flat.h"
#include "kernels/table.h"

#undef LANES
#undef INTRINSIC
#undef RAW
#undef MANTISSA_BITS
#undef EXPONENT_BIAS
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_HIGHEST
#undef EXP_LOWEST
#undef TANH_IS_ONE
#undef NORMAL_HIGHEST
#undef GELU_A
#undef GELU_A_LOW
#undef GELU_B_UPPER
#undef GELU_B_LOW
#undef SQRT_HALF
#undef SINCOS_HIGHEST
#undef QUARTER
#undef QUARTERS
