/* Holds the kernels of one instruction set against plain loops, without Python: for processors that are emulated and
 * platforms whose Python isn't at hand (`make emulate`). Sums are of small integers, so that they must match exactly;
 * activations may be off by a few units in the last place. The full comparison is that of the tests in Python.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nnk.h"
#include "pool.h"

#define MOST 70
static const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 13, 14, 15, 16, 17, 31, 32, 33, 63, 64, 65};
#define SIZES (int)(sizeof sizes / sizeof sizes[0])
static long compared = 0, nonzero = 0, wrong = 0;

static void compare(const char *what, double found, double expected, double bound)
{
    compared++;
    nonzero += expected != 0;
    if (!(fabs(found - expected) <= bound) && ++wrong < 10)
        fprintf(stderr, "%s: %.17g, expected %.17g\n", what, found, expected);
}

static int small(int i, int j) { return (i * 7 + j * 13 + i * j) % 9 - 4; }

#define CHECKS(real, epsilon)                                                                             \
    static void check_products_##real(const nnk_table *t, int n, int m, int depth, int turned, void *scratch)          \
    {                                                                                                                  \
        static real L[MOST * MOST], R[MOST * MOST], C[MOST * MOST];                                                    \
        const int ldl = (turned ? depth : n) + 3, ldc = n + 2;                                                         \
        for (int i = 0; i < MOST * MOST; i++)                                                                          \
            L[i] = R[i] = C[i] = (real)NAN;                                                                            \
        for (int i = 0; i < n; i++)                                                                                    \
            for (int k = 0; k < depth; k++)                                                                            \
                L[turned ? k + i * ldl : i + k * ldl] = (real)small(i, k);                                             \
        for (int k = 0; k < depth; k++)                                                                                \
            for (int j = 0; j < m; j++)                                                                                \
                R[k + j * depth] = (real)small(k + 1, j + 2);                                                          \
        const nnk_product p = {C, L, R, ldc, ldl, 1, depth, turned, 2, 0, n, m, depth};                                \
        t->gemm(&p, 0, n, 0, m, scratch);                                                                              \
        for (int j = 0; j < m; j++) {                                                                                  \
            for (int i = 0; i < n; i++) {                                                                              \
                int sum = 0;                                                                                           \
                for (int k = 0; k < depth; k++)                                                                        \
                    sum += 2 * small(i, k) * small(k + 1, j + 2);                                                      \
                compare("gemm " #real, C[i + j * ldc], sum, 0);                                                        \
            }                                                                                                          \
            if (!isnan(C[n + j * ldc]))                                                                                \
                compare("gemm " #real " beside C", C[n + j * ldc], NAN, 0);                                            \
        }                                                                                                              \
    }                                                                                                                  \
    static void check_vectors_##real(const nnk_table *t, int rows, int columns)                                        \
    {                                                                                                                  \
        static real A[MOST * MOST], x[MOST], y[MOST];                                                                  \
        for (int j = 0; j < columns; j++)                                                                              \
            for (int i = 0; i < rows; i++)                                                                             \
                A[i + j * (rows + 1)] = (real)small(i, j);                                                             \
        for (int i = 0; i < MOST; i++) {                                                                               \
            x[i] = (real)small(i, 3);                                                                                  \
            y[i] = (real)i;                                                                                            \
        }                                                                                                              \
        t->dots(y, 1, A, rows + 1, x, 3, rows, columns);                                                               \
        for (int j = 0; j < columns; j++) {                                                                            \
            int sum = j;                                                                                               \
            for (int i = 0; i < rows; i++)                                                                             \
                sum += 3 * small(i, j) * small(i, 3);                                                                  \
            compare("dots " #real, y[j], sum, 0);                                                                      \
            y[j] = (real)j;                                                                                            \
        }                                                                                                              \
        t->add_columns(y, A, rows + 1, x, 1, 3, rows, columns);                                                        \
        for (int i = 0; i < rows; i++) {                                                                               \
            int sum = i;                                                                                               \
            for (int j = 0; j < columns; j++)                                                                          \
                sum += 3 * small(i, j) * small(j, 3);                                                                  \
            compare("add_columns " #real, y[i], sum, 0);                                                               \
        }                                                                                                              \
    }                                                                                                                  \
    static void check_packed_##real(const nnk_table *t, int n, int n_prev, int weights)                                \
    {                                                                                                                  \
        static real W[MOST * MOST], widened[NNK_UNPACKED_BYTES / sizeof(real)];                                        \
        nnk_packed p = {NULL, NULL, weights, n, n_prev};                                                               \
        /* memory of the very size, so that a sanitizer sees what is read beyond it */                                 \
        real *x = malloc((size_t)n_prev * sizeof(real)), *z = malloc((size_t)n * sizeof(real));                        \
        p.W = aligned_alloc(64, (t->packed_bytes(&p) + 63) / 64 * 64);                                                 \
        p.scale = aligned_alloc(64, ((size_t)n * sizeof(real) + 63) / 64 * 64);                                        \
        for (int i = 0; i < n; i++)                                                                                    \
            for (int k = 0; k < n_prev; k++)                                                                           \
                W[i + k * n] = (real)(k ? small(i, k) : 127);                                                          \
        for (int k = 0; k < n_prev; k++)                                                                               \
            x[k] = (real)small(k, 3);                                                                                  \
        t->pack_weights(&p, W);                                                                                        \
        for (int i = 0; i < n; i++)                                                                                    \
            z[i] = (real)NAN;                                                                                          \
        for (int part = 0; part < t->packed_parts(&p); part++) {                                                       \
            nnk_block block;                                                                                           \
            t->packed_times_vector(z, &p, x, part);                                                                    \
            t->unpacked(&block, &p, part, 0, n_prev, widened);                                                         \
            for (int i = 0; i < block.n; i++)                                                                          \
                for (int k = 0; k < n_prev; k++)                                                                       \
                    compare("unpacked " #real, ((const real *)block.data)[i * block.row + k * block.column],           \
                            W[block.first + i + k * n], 0);                                                            \
        }                                                                                                              \
        for (int i = 0; i < n; i++) {                                                                                  \
            int sum = 0;                                                                                               \
            for (int k = 0; k < n_prev; k++)                                                                           \
                sum += (k ? small(i, k) : 127) * small(k, 3);                                                          \
            compare("packed_times_vector " #real, z[i], sum, 0);                                                       \
        }                                                                                                              \
        free(p.W), free(p.scale), free(x), free(z);                                                                    \
    }                                                                                                                  \
    static void check_activations_##real(const nnk_table *t, int n, int m)                                             \
    {                                                                                                                  \
        static real Z[MOST * MOST], A[MOST * MOST], dA[MOST * MOST], dZ[MOST * MOST], b[MOST], db[MOST];               \
        for (int i = 0; i < n * m; i++) {                                                                              \
            Z[i] = (real)(small(i, 5) * 1.37 + 0.01 * (i % 11));                                                       \
            dA[i] = (real)small(i, 2);                                                                                 \
        }                                                                                                              \
        for (int i = 0; i < n; i++)                                                                                    \
            b[i] = (real)small(i, 1);                                                                                  \
        const int names[] = {NNK_relu, NNK_tanh, NNK_sigmoid};                                                         \
        for (int name = 0; name < 3; name++) {                                                                         \
            memset(db, 0, sizeof db);                                                                                  \
            t->forward[names[name]](A, n, Z, n, b, 0.01, n, m);                                                        \
            t->backward[names[name]](dZ, n, db, dA, n, A, n, NULL, n, 0.01, n, m);                                     \
            for (int i = 0; i < n; i++) {                                                                              \
                double sum = 0, size = 0;                                                                              \
                for (int j = 0; j < m; j++) {                                                                          \
                    const double z = (double)(real)(Z[i + j * n] + b[i]), a = A[i + j * n], da = dA[i + j * n];        \
                    const double g = name == 0 ? fmax(z, 0) : name == 1 ? tanh(z) : 1 / (1 + exp(-z));                 \
                    const double dg = name == 0 ? a > 0 : name == 1 ? 1 - a * a : a * (1 - a);                         \
                    compare("forward " #real, a, g, 8 * epsilon * fabs(g));                                            \
                    compare("backward " #real, dZ[i + j * n], da * dg, 4 * epsilon * fabs(da));                        \
                    sum += dZ[i + j * n];                                                                              \
                    size += fabs((double)dZ[i + j * n]);                                                               \
                }                                                                                                      \
                compare("db " #real, db[i], sum, (m + 1) * epsilon * size);                                            \
            }                                                                                                          \
        }                                                                                                              \
        const double cost = t->loss[NNK_squared_error](A, dZ, Z, dA, NULL, NULL, 2, 0, n, m);                          \
        double expected = 0;                                                                                           \
        for (int i = 0; i < n * m; i++) {                                                                              \
            const double d = (double)Z[i] - (double)dA[i];                                                             \
            expected += 0.5 * d * d;                                                                                   \
            compare("squared_error " #real, dZ[i], 2 * d, 4 * epsilon * fabs(d));                                      \
        }                                                                                                              \
        compare("cost " #real, cost, expected, 70 * epsilon * expected);                                               \
    }
CHECKS(float, 1.2e-7)
CHECKS(double, 2.3e-16)

int main(void)
{
    const nnk_tables *tables = nnk_choose_tables();
    void *scratch = nnk_take_scratch();
    if (!tables || !scratch)
        return 1;
    for (int a = 0; a < SIZES; a++)
        for (int b = 0; b < SIZES; b++) {
            for (int c = 0; c < SIZES; c += 3)
                for (int turned = 0; turned < 2; turned++) {
                    check_products_float(tables->f32, sizes[a], sizes[b], sizes[c], turned, scratch);
                    check_products_double(tables->f64, sizes[a], sizes[b], sizes[c], turned, scratch);
                }
            check_vectors_float(tables->f32, sizes[a], sizes[b]);
            check_vectors_double(tables->f64, sizes[a], sizes[b]);
            for (int weights = 0; weights < NNK_WEIGHTS; weights++)
                check_packed_float(tables->f32, sizes[a], sizes[b], weights);
            check_packed_double(tables->f64, sizes[a], sizes[b], NNK_whole);
            check_activations_float(tables->f32, sizes[a], sizes[b]);
            check_activations_double(tables->f64, sizes[a], sizes[b]);
        }
    nnk_give_scratch(scratch);
    printf("kernels_driver: %s, %ld entries compared, %ld of them not 0, %ld wrong\n", tables->isa, compared, nonzero,
           wrong);
    return wrong || nonzero < compared / 3;
}
