/* Sums that are no kernel of any one instruction set: compiled once for all of them, without their flags, so that every
 * table gives the same bits. Terms are doubles, added in the order of the entries.
 */
#include <assert.h>
#include <math.h>
#include "kernels/sums.h"

#define REAL float
#define NAME(x) x##_f32
#include "kernels/sums_body.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(x) x##_f64
#include "kernels/sums_body.h"
#undef REAL
#undef NAME
