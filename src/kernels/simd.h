/* The vector type of one instruction set and one precision, and the few operations on it that C's operators lack.
 *
 * Included once per precision by isa.h, which defines
 *   REAL, REAL_BITS      float, 32 or double, 64
 *   NNK_VECTOR_BYTES     16 (baseline), 32 (AVX2), 64 (AVX-512)
 *   NAME(x)              x with the suffix of the precision
 * Everything is written with GCC's vector extensions, so that one body serves all; intrinsics are used only where the
 * extension has no word for it: loads and stores of fewer lanes than a vector has, the square root, the larger of two,
 * a power of two applied.
 * Knows nothing of networks.
 */
#define LANES (NNK_VECTOR_BYTES / (REAL_BITS / 8))
#define R(x) ((real)(x))

typedef REAL NAME(real);
#define real NAME(real)
#if REAL_BITS == 32
typedef int32_t NAME(integer);
#else
typedef int64_t NAME(integer);
#endif
#define integer NAME(integer)
typedef real NAME(vec) __attribute__((vector_size(NNK_VECTOR_BYTES)));
typedef integer NAME(ivec) __attribute__((vector_size(NNK_VECTOR_BYTES)));
#define vec NAME(vec)
#define ivec NAME(ivec)

#define v_all NAME(v_all)
#define v_lanes NAME(v_lanes)
#define v_first_lanes NAME(v_first_lanes)
#define v_load NAME(v_load)
#define v_store NAME(v_store)
#define v_load_first NAME(v_load_first)
#define v_store_first NAME(v_store_first)
#define v_first NAME(v_first)
#define v_put NAME(v_put)
#define v_select NAME(v_select)
#define v_fma NAME(v_fma)
#define v_less NAME(v_less)
#define v_less_equal NAME(v_less_equal)
#define v_is_nan NAME(v_is_nan)
#define v_abs NAME(v_abs)
#define v_copysign NAME(v_copysign)
#define v_max NAME(v_max)
#define v_min NAME(v_min)
#define v_sqrt NAME(v_sqrt)
#define v_sum NAME(v_sum)
#define v_sum_double NAME(v_sum_double)
#define v_highest NAME(v_highest)
#define v_shuffle NAME(v_shuffle)
#define v_shuffle_two NAME(v_shuffle_two)
#define v_swap NAME(v_swap)
#define v_sum_everywhere NAME(v_sum_everywhere)
#define v_highest_everywhere NAME(v_highest_everywhere)
#define v_keep_first NAME(v_keep_first)
#define v_rounded NAME(v_rounded)

/* INTRINSIC(op): Intel's name of an operation on a whole vector; RAW: Intel's type of the vector */
#if defined(__x86_64__) && NNK_VECTOR_BYTES == 64 && REAL_BITS == 32
#define INTRINSIC(op) _mm512_##op##_ps
#define RAW __m512
#elif defined(__x86_64__) && NNK_VECTOR_BYTES == 64
#define INTRINSIC(op) _mm512_##op##_pd
#define RAW __m512d
#elif defined(__x86_64__) && NNK_VECTOR_BYTES == 32 && REAL_BITS == 32
#define INTRINSIC(op) _mm256_##op##_ps
#define RAW __m256
#elif defined(__x86_64__) && NNK_VECTOR_BYTES == 32
#define INTRINSIC(op) _mm256_##op##_pd
#define RAW __m256d
#elif defined(__x86_64__) && REAL_BITS == 32
#define INTRINSIC(op) _mm_##op##_ps
#define RAW __m128
#elif defined(__x86_64__)
#define INTRINSIC(op) _mm_##op##_pd
#define RAW __m128d
#endif

NNK_INLINE vec v_all(real x) { return x - (vec){0}; }

/* mask ? a : b, where a lane of mask is all ones or all zeros */
NNK_INLINE vec v_select(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }

/* 0, 1, … LANES - 1 */
NNK_INLINE ivec v_lanes(void)
{
    ivec lanes;
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = lane;
    return lanes;
}

/* ones in the first k lanes */
NNK_INLINE ivec v_first_lanes(ptrdiff_t k) { return (ivec)(v_lanes() < (integer)k); }

NNK_INLINE vec v_load(const real *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

NNK_INLINE void v_store(real *p, vec v) { memcpy(p, &v, sizeof v); }

/* The first k lanes from p, 0 < k <= LANES, the others `fill`; reads no byte beyond p[k-1]. */
NNK_INLINE vec v_load_first(const real *p, ptrdiff_t k, real fill)
{
    assert(0 < k && k <= LANES);
#if defined(__AVX512VL__) && NNK_VECTOR_BYTES == 64 && REAL_BITS == 32
    return (vec)_mm512_mask_loadu_ps((__m512)v_all(fill), (__mmask16)((1u << k) - 1), p);
#elif defined(__AVX512VL__) && NNK_VECTOR_BYTES == 64
    return (vec)_mm512_mask_loadu_pd((__m512d)v_all(fill), (__mmask8)((1u << k) - 1), p);
#elif defined(__AVX2__) && NNK_VECTOR_BYTES == 32 && REAL_BITS == 32
    const ivec mask = v_first_lanes(k);
    return v_select(mask, (vec)_mm256_maskload_ps(p, (__m256i)mask), v_all(fill));
#elif defined(__AVX2__) && NNK_VECTOR_BYTES == 32
    const ivec mask = v_first_lanes(k);
    return v_select(mask, (vec)_mm256_maskload_pd(p, (__m256i)mask), v_all(fill));
#else
    vec v = v_all(fill);
    for (ptrdiff_t i = 0; i < k; i++)
        v[i] = p[i];
    return v;
#endif
}

/* Stores the first k lanes, 0 < k <= LANES; touches no byte beyond p[k-1]. */
NNK_INLINE void v_store_first(real *p, vec v, ptrdiff_t k)
{
    assert(0 < k && k <= LANES);
#if defined(__AVX512VL__) && NNK_VECTOR_BYTES == 64 && REAL_BITS == 32
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << k) - 1), (__m512)v);
#elif defined(__AVX512VL__) && NNK_VECTOR_BYTES == 64
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << k) - 1), (__m512d)v);
#elif defined(__AVX2__) && NNK_VECTOR_BYTES == 32 && REAL_BITS == 32
    _mm256_maskstore_ps(p, (__m256i)v_first_lanes(k), (__m256)v);
#elif defined(__AVX2__) && NNK_VECTOR_BYTES == 32
    _mm256_maskstore_pd(p, (__m256i)v_first_lanes(k), (__m256d)v);
#else
    for (ptrdiff_t i = 0; i < k; i++)
        p[i] = v[i];
#endif
}

/* The same for k lanes or more: all of them then. */
NNK_INLINE vec v_first(const real *p, ptrdiff_t k) { return k < LANES ? v_load_first(p, k, 0) : v_load(p); }
NNK_INLINE void v_put(real *p, vec v, ptrdiff_t k)
{
    if (k < LANES)
        v_store_first(p, v, k);
    else
        v_store(p, v);
}

NNK_INLINE vec v_rounded(vec product)
{
    NNK_ROUNDED(product);
    return product;
}

/* a b + c, rounded once where the processor can */
NNK_INLINE vec v_fma(vec a, vec b, vec c) { return NNK_FMA(a, b, c); }

NNK_INLINE ivec v_less(vec a, vec b) { return (ivec)(a < b); }
/* a <= b, false for NaN: written so that a NaN in `a` takes the other branch of a select */
NNK_INLINE ivec v_less_equal(vec a, vec b) { return (ivec)(a <= b); }
NNK_INLINE ivec v_is_nan(vec a) { return (ivec)(a != a); }
/* a < b ? b : a and b < a ? b : a, which the processor's own functions are with the operands the other way round */
#ifdef INTRINSIC
NNK_INLINE vec v_max(vec a, vec b) { return (vec)INTRINSIC(max)((RAW)b, (RAW)a); }
NNK_INLINE vec v_min(vec a, vec b) { return (vec)INTRINSIC(min)((RAW)b, (RAW)a); }
#else
NNK_INLINE vec v_max(vec a, vec b) { return v_select(v_less(a, b), b, a); }
NNK_INLINE vec v_min(vec a, vec b) { return v_select(v_less(b, a), b, a); }
#endif

#define SIGN_BIT ((integer)((integer)1 << (REAL_BITS - 2)) * -2)
NNK_INLINE vec v_abs(vec a) { return (vec)((ivec)a & ~SIGN_BIT); }
/* |a| with the sign of s, for a >= 0 */
NNK_INLINE vec v_copysign(vec a, vec s) { return (vec)((ivec)a | ((ivec)s & SIGN_BIT)); }

NNK_INLINE vec v_sqrt(vec a)
{
#ifdef INTRINSIC
    return (vec)INTRINSIC(sqrt)((RAW)a);
#else
    for (int i = 0; i < LANES; i++)
        a[i] = (real)__builtin_sqrt(a[i]);
    return a;
#endif
}

/* lane i of the result is lane from[i] of a; or of a and b one after the other */
NNK_INLINE vec v_shuffle(vec a, ivec from) { return NNK_SHUFFLE(a, a, from); }
NNK_INLINE vec v_shuffle_two(vec a, vec b, ivec from) { return NNK_SHUFFLE(a, b, from); }

/* lane i of the result is lane i ^ distance of a */
NNK_INLINE vec v_swap(vec a, int distance)
{
    return v_shuffle(a, v_lanes() ^ (integer)distance);
}

/* The sum of the lanes, in a fixed tree (halves, quarters, …), in every lane; and the highest, which passes over NaN in
 * some of the lanes */
NNK_INLINE vec v_sum_everywhere(vec a)
{
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
        a += v_swap(a, half);
    return a;
}

NNK_INLINE vec v_highest_everywhere(vec a)
{
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
        a = v_max(a, v_swap(a, half));
    return a;
}

NNK_INLINE real v_sum(vec a) { return v_sum_everywhere(a)[0]; }

NNK_INLINE double v_sum_double(vec a)
{
    double s = 0;
    for (int i = 0; i < LANES; i++)
        s += a[i];
    return s;
}

NNK_INLINE real v_highest(vec a) { return v_highest_everywhere(a)[0]; }

/* a in the first k lanes, 0 in the others */
NNK_INLINE vec v_keep_first(vec a, ptrdiff_t k)
{
    return v_select(v_first_lanes(k), a, v_all(0));
}
