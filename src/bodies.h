/* The bodies of one precision, and the undoing of what they define. The order is that of their dependence. */
#include "simd.h"
#include "vmath.h"
#include "epilogue.h"
#include "losses.h"
#include "update.h"
#include "gemv.h"
#include "gemm.h"
#include "limit.h"
#include "flat.h"

#undef LANES
#undef MANTISSA_BITS
#undef EXPONENT_BIAS
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_HIGHEST
#undef EXP_LOWEST
#undef TANH_IS_ONE
#undef NORMAL_HIGHEST
#undef SQRT_HALF
#undef TILE_COLUMNS
#undef QUARTER
#undef QUARTERS
#undef DOT_COLUMNS
#undef DOT_UNITS
