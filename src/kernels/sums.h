/* What sums.c defines, once per precision, for the tables; nnk.h says what each does. */
#ifndef NNK_SUMS_H
#define NNK_SUMS_H
#include "kernels/nnk.h"

#define NNK_SCORE(name, precision)                                                                                     \
    void nnk_score_##name##_##precision(double *right, double *squares, const void *A, const void *Y,                  \
                                        const int64_t *labels, const void *w, ptrdiff_t n, ptrdiff_t m);
#define NNK_SUMS(precision)                                                                                            \
    NNK_SCORE(argmax, precision)                                                                                       \
    NNK_SCORE(sides, precision)                                                                                        \
    NNK_SCORE(squares, precision)                                                                                      \
    double nnk_total_##precision(const void *w, const int64_t *order, ptrdiff_t first, ptrdiff_t count);               \
    void nnk_magnitudes_##precision(const void *x, ptrdiff_t count, double unit, double *largest, double *squares);    \
    double nnk_penalty_##precision(const void *W, double l2, double l1, ptrdiff_t count);
NNK_SUMS(f32)
NNK_SUMS(f64)
#undef NNK_SUMS
#undef NNK_SCORE

#endif
