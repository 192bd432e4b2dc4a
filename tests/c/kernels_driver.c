/* Holds the kernels of one instruction set against plain loops, without Python: for processors that are emulated and
 * platforms whose Python isn't at hand (`make emulate`), and to judge mutants of the kernels quickly (`make mutate`).
 *
 *   kernels_driver [products | reduced | vectors | packed | activations | losses | updates | moves | sums | encoders | sparse] …      all without a word
 *
 * Operands end where a page begins that may not be touched, so that whatever reads or writes beyond an array is ended by
 * the system; before them and between their columns is NaN, which must be there afterwards. Sizes lie below, at and above
 * the widths of vectors, tiles and panels of every instruction set. Sums are of small integers, so that they must match
 * exactly; the rest may be off by what its roundings allow. Knows the functions of nnk.h, and nothing of how they are made.
 * The full comparison, with special values, is that of the tests in Python.
 */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef _WIN32
#include <sys/mman.h>
#include <unistd.h>
#endif
#include "kernels/nnk.h"
#include "runtime/pool.h"

#define COUNT(array) (int)(sizeof array / sizeof array[0])
static long compared = 0, nonzero = 0;

static void fail(const char *what, double found, double expected)
{
    fprintf(stderr, "kernels_driver: %s: %.17g, expected %.17g\n", what, found, expected);
    exit(1);
}

static void compare(const char *what, double found, double expected, double bound)
{
    compared++;
    nonzero += expected != 0;
    if (!(fabs(found - expected) <= bound) && found != expected && !(isnan(found) && isnan(expected)))
        fail(what, found, expected);
}

/* ---- memory whose end is guarded ---- */

enum { FIRST, SECOND, THIRD, FOURTH, FIFTH, SCRATCH, REGIONS };
#define REGION_BYTES ((size_t)16 << 20)
#define MARGIN_BYTES 512
static unsigned char *ends[REGIONS];
static size_t taken[REGIONS];

static void make_regions(void)
{
#ifndef _WIN32
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
#endif
    for (int region = 0; region < REGIONS; region++) {
#ifdef _WIN32
        unsigned char *start = malloc(REGION_BYTES + 64);
        const int there = start != NULL;
        start += 64 - (size_t)start % 64;
#else
        unsigned char *start = mmap(NULL, REGION_BYTES + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        const int there = start != MAP_FAILED && !mprotect(start, REGION_BYTES, PROT_READ | PROT_WRITE);
#endif
        if (!there)
            exit(2);
        ends[region] = start + REGION_BYTES;
    }
}

static int all_ones(const unsigned char *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (from[i] != 0xff)
            return 0;
    return 1;
}

/* The last `bytes` of a region, in which every bit is set: NaN, or the integer -1 */
static void *take(int region, size_t bytes)
{
    if (bytes + MARGIN_BYTES > REGION_BYTES)
        exit(2);
    taken[region] = bytes;
    return memset(ends[region] - bytes - MARGIN_BYTES, 0xff, bytes + MARGIN_BYTES) + MARGIN_BYTES;
}

/* Asserts that nothing was written before a region, nor between its columns: `used` bytes each, `apart` bytes apart */
static void check_beside(const char *what, int region, size_t used, size_t apart)
{
    const unsigned char *start = ends[region] - taken[region];
    if (!all_ones(start - MARGIN_BYTES, MARGIN_BYTES))
        fail(what, 0, NAN);
    for (const unsigned char *at = start + used; used < apart && at + (apart - used) <= ends[region]; at += apart)
        if (!all_ones(at, apart - used))
            fail(what, 1, NAN);
}

/* ---- numbers ---- */

static int small(long i, long j) { return (int)((i * 7 + j * 13 + i * j % 31 * 5 + i / 16 + j / 14) % 9) - 4; }

/* an integer other than 0 */
static int whole(long i, long j) { return small(i, j) < 0 ? small(i, j) : small(i, j) + 1; }

/* some number within ±size, seldom a round one; the same one wherever it is asked for, which inlined it might not be */
static __attribute__((noinline)) double some(long i, long j, double size)
{
    return size * sin(1.7 * (double)i + 0.9 * (double)j + 0.3);
}

/* x, or the nearest number of 8 significant bits, ties to even */
static double rounded_if(int rounds, double x)
{
    int exponent;
    const double mantissa = frexp(x, &exponent);
    return rounds ? ldexp(rint(mantissa * 256), exponent - 8) : x;
}

static double g_of(int activation, double z, double slope)
{
    switch (activation) {
    case NNK_linear: return z;
    case NNK_relu: return z < 0 ? 0 : z;
    case NNK_leaky_relu: return z < 0 ? slope * z : z;
    case NNK_tanh: return tanh(z);
    case NNK_sigmoid: return 1 / (1 + exp(-z));
    case NNK_silu: return z / (1 + exp(-z));
    case NNK_exp: return exp(z);
    }
    return NAN;
}

/* g' from h: a, or for silu z */
static double dg_of(int activation, double h, double slope)
{
    const double s = 1 / (1 + exp(-h));
    switch (activation) {
    case NNK_linear: return 1;
    case NNK_relu: return h > 0;
    case NNK_leaky_relu: return h > 0 ? 1 : slope;
    case NNK_tanh: return 1 - h * h;
    case NNK_sigmoid: return h * (1 - h);
    case NNK_silu: return s * (1 + h * (1 - s));
    case NNK_exp: return h;
    }
    return NAN;
}
static const int some_activations[] = {NNK_linear, NNK_relu, NNK_leaky_relu, NNK_tanh, NNK_sigmoid, NNK_silu, NNK_exp};

/* The loss of one entry; what it is computed from has the size *size */
static double loss_of(int loss, double z, double y, double parameter, double *a, double *dz, double *size)
{
    const double d = z - y, t = y + parameter * (0.5 - y), q = d < 0 ? -parameter : 1 - parameter;
    const double bounded = fmax(-parameter, fmin(parameter, d));
    *a = z;
    *dz = d;
    *size = fabs(z) + fabs(y);
    switch (loss) {
    case NNK_squared_error: *size *= *size; return 0.5 * d * d;
    case NNK_absolute_error: *dz = (d > 0) - (d < 0); return fabs(d);
    case NNK_huber: *dz = bounded; *size *= 1 + *size; return bounded * (d - 0.5 * bounded);
    case NNK_quantile: *dz = d == 0 ? 0 : q; return q * d;
    case NNK_poisson: *a = exp(z); *dz = *a - y; *size = *a + fabs(y * z); return *a - y * z;
    case NNK_binary_cross_entropy:
        *a = 1 / (1 + exp(-z));
        *dz = *a - t;
        *size = fabs(z) + 1;
        return fmax(z, 0) - t * z + log1p(exp(-fabs(z)));
    }
    return NAN;
}

/* ---- the checks of one precision ---- */

#define real float
#define NAME(x) x##_float
#define EPSILON 1.1920929e-7
#define TABLE f32
#include "kernels_checks.h"
#undef real
#undef NAME
#undef EPSILON
#undef TABLE

#define real double
#define NAME(x) x##_double
#define EPSILON 2.220446049250313e-16
#define TABLE f64
#include "kernels_checks.h"

#define CHECK(part) {#part, NAME_OF(part, float), NAME_OF(part, double)}
#define NAME_OF(part, precision) check_##part##_##precision
static const struct {
    const char *name;
    void (*of_float)(const nnk_tables *), (*of_double)(const nnk_tables *);
} parts[] = {CHECK(products), CHECK(reduced), CHECK(vectors), CHECK(packed), CHECK(activations), CHECK(losses), CHECK(updates), CHECK(moves), CHECK(sums), CHECK(encoders), CHECK(sparse)};

static void run(int part, const nnk_tables *tables)
{
    parts[part].of_float(tables);
    parts[part].of_double(tables);
}

int main(int count, char **names)
{
    const nnk_tables *tables = nnk_choose_tables();
    if (!tables)
        return 2;
    make_regions();
    for (int part = 0; count == 1 && part < COUNT(parts); part++)
        run(part, tables);
    for (int name = 1; name < count; name++) {
        int part = 0;
        while (part < COUNT(parts) && strcmp(parts[part].name, names[name]))
            part++;
        if (part == COUNT(parts))
            return 2;
        run(part, tables);
    }
    printf("kernels_driver: %s, %ld entries compared, %ld of them not 0\n", tables->isa, compared, nonzero);
    return nonzero < compared / 3;
}
