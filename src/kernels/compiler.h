/* What every file of kernels needs of the language: headers, attributes, and what each compiler must be told about rounding.
 * Whoever includes it has defined NNK_VECTOR_BYTES.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#include "kernels/nnk.h"

/* For assertions: whether there is a matrix (n, m) whose columns are contiguous, ld apart; and whether all labels, where
 * there are any, are in 0 … n-1 */
#define NNK_IS_MATRIX(data, ld, n, m) (NNK_IS_INPUT(data, n, m) && ((m) <= 1 || (ld) >= (n)))
/* what is read may have its columns anywhere: in reverse order, or one place for all */
#define NNK_IS_INPUT(data, n, m) ((n) >= 0 && (m) >= 0 && ((n) == 0 || (m) == 0 || (data)))
static inline int nnk_labels_are_below(const int64_t *labels, int64_t n, ptrdiff_t m)
{
    for (ptrdiff_t j = 0; labels && j < m; j++)
        if (labels[j] < 0 || labels[j] >= n)
            return 0;
    return 1;
}

#define NNK_INLINE static inline __attribute__((always_inline))
/* hides from the compiler what a pointer is made of */
#define NNK_OPAQUE(pointer) __asm__("" : "+r"(pointer))
/* A product as it is rounded: not to be contracted with the addition that follows, of which the compiler could pick another
 * operand in each instance of a function */
#if defined(__x86_64__) && NNK_VECTOR_BYTES == 64
#define NNK_ROUNDED(product) __asm__("" : "+v"(product))
#elif defined(__x86_64__) || defined(__i386__)
#define NNK_ROUNDED(product) __asm__("" : "+x"(product))
#elif defined(__aarch64__)
#define NNK_ROUNDED(product) __asm__("" : "+w"(product))
#else
#define NNK_ROUNDED(product)                                                                                           \
    do {                                                                                                               \
        volatile __typeof__(product) kept_ = product;                                                                  \
        product = kept_;                                                                                               \
    } while (0)
#endif
/* a b + c: clang is told that it is to be rounded once, since what it contracts by itself depends on the blocks about it */
#if defined(__clang__) && (defined(__FMA__) || defined(__aarch64__))
#if __has_builtin(__builtin_elementwise_fma)
#define NNK_FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#endif
#endif
#ifndef NNK_FMA
#define NNK_FMA(a, b, c) ((a) * (b) + (c))
#endif
#define NNK_STRING_(x) #x
#define NNK_STRING(x) NNK_STRING_(x)
/* Lanes from[i] of the vectors a and b, one after the other. clang has no builtin for indices that aren't literals, and
 * makes the same instruction of the loop where they turn out to be constants. */
#ifdef __clang__
#define NNK_SHUFFLE(a, b, from)                                                                                        \
    ({                                                                                                                 \
        enum { lanes_ = sizeof(a) / sizeof((a)[0]) };                                                                  \
        __typeof__(a) result_ = a;                                                                                     \
        _Pragma("clang loop unroll(full)") for (int lane_ = 0; lane_ < lanes_; lane_++)                                \
            result_[lane_] = (from)[lane_] < lanes_ ? (a)[(from)[lane_] % lanes_] : (b)[(from)[lane_] % lanes_];       \
        result_;                                                                                                       \
    })
#else
#define NNK_SHUFFLE(a, b, from) __builtin_shuffle(a, b, from)
#endif
