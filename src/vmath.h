/* exp, tanh, sigmoid, log and log1p on vectors, for every argument: NaN gives NaN, infinities and subnormals are right,
 * nothing traps and no floating-point mode is touched. Largest errors are stated with each function (in units in the
 * last place, both precisions, with and without fused multiply-add); tests/test_kernels_activations.py holds them.
 * The coefficients come from minimax.py. Included once per precision and instruction set, after simd.h.
 */
#define v_exp NAME(v_exp)
#define v_expm1_parts NAME(v_expm1_parts)
#define v_expm1_positive NAME(v_expm1_positive)
#define v_tanh NAME(v_tanh)
#define v_sigmoid NAME(v_sigmoid)
#define v_log1p NAME(v_log1p)
#define v_log NAME(v_log)
#define v_log_parts NAME(v_log_parts)
#define v_power_of_two NAME(v_power_of_two)

/* ln2 = LN2_HIGH + LN2_LOW; LN2_HIGH has so many trailing zero bits that n LN2_HIGH is exact for every exponent n */
#if REAL_BITS == 32
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define LN2_HIGH R(0.693145751953125)
#define LN2_LOW R(1.42860682030941723e-6)
#define EXP_HIGHEST R(90)
#define EXP_LOWEST R(-105)
#define TANH_IS_ONE R(10)
#define SQRT_HALF R(0.707106769)
static const real NAME(exp_c)[] = {R(0.5), R(0.166665763), R(0.0416663736), R(0.00836319011), R(0.00139411399)};
static const real NAME(log_c)[] = {R(0.666666687), R(0.400001228), R(0.285507321), R(0.233325496)};
#else
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define LN2_HIGH R(0.69314718036912381649)
#define LN2_LOW R(1.9082149292705877e-10)
#define EXP_HIGHEST R(720)
#define EXP_LOWEST R(-760)
#define TANH_IS_ONE R(20)
#define SQRT_HALF R(0.70710678118654757)
static const real NAME(exp_c)[] = {
    R(0.5), R(0.16666666666666674), R(0.041666666666624073), R(0.0083333333333221824), R(0.0013888888917239393),
    R(0.00019841269886672062), R(2.4801521256394844e-5), R(2.7557242241911524e-6), R(2.7620107155716606e-7),
    R(2.5110086344017077e-8)};
static const real NAME(log_c)[] = {
    R(0.66666666666666696), R(0.39999999999898356), R(0.28571428626440065), R(0.22222211066200287),
    R(0.18182893701079442), R(0.1533158096765404), R(0.14618069931285366)};
#endif
#define EXP_DEGREE ((int)(sizeof NAME(exp_c) / sizeof(real)) - 1)
#define LOG_DEGREE ((int)(sizeof NAME(log_c) / sizeof(real)) - 1)
/* adding it leaves a number rounded to the nearest integer in the low bits */
#define ROUNDER R(1.5 * (double)((int64_t)1 << MANTISSA_BITS))

/* 2^n for n in the range of normal exponents */
NNK_INLINE vec v_power_of_two(ivec n) { return (vec)((n + EXPONENT_BIAS) << MANTISSA_BITS); }

/* x = n ln2 + r, |r| <= ln2/2: returns e^r - 1 and n. */
NNK_INLINE vec v_expm1_parts(vec x, ivec *n)
{
    const vec t = x * R(1.44269504088896340736) + ROUNDER;
    const vec n_real = t - ROUNDER;
    const vec r = (x - n_real * LN2_HIGH) - n_real * LN2_LOW;
    vec p = v_all(NAME(exp_c)[EXP_DEGREE]);
    for (int k = EXP_DEGREE - 1; k >= 0; k--)
        p = p * r + NAME(exp_c)[k];
    *n = (ivec)t - (ivec)v_all(ROUNDER);
    return (r * r) * p + r;
}

/* e^x, 1 ULP (subnormal results too: the power of two is applied in two halves) */
NNK_INLINE vec v_exp(vec x)
{
    const vec low = v_select(v_less(x, v_all(EXP_LOWEST)), v_all(EXP_LOWEST), x);
    const vec clamped = v_select(v_less(v_all(EXP_HIGHEST), low), v_all(EXP_HIGHEST), low);
    ivec n;
    const vec q = v_expm1_parts(clamped, &n);
    const ivec half = n >> 1;
    return ((R(1) + q) * v_power_of_two(half)) * v_power_of_two(n - half);
}

/* e^x - 1 for 0 <= x <= 2 TANH_IS_ONE, 2 ULP: 2^n (e^r - 1) + (2^n - 1), where nothing cancels since n >= 0 */
NNK_INLINE vec v_expm1_positive(vec x)
{
    ivec n;
    const vec q = v_expm1_parts(x, &n);
    const vec two_n = v_power_of_two(n);
    return two_n * q + (two_n - R(1));
}

/* tanh x = t / (t + 2) with t = e^(2|x|) - 1, 3 ULP */
NNK_INLINE vec v_tanh(vec x)
{
    const vec magnitude = v_abs(x);
    const vec clamped = v_select(v_less(v_all(TANH_IS_ONE), magnitude), v_all(TANH_IS_ONE), magnitude);
    const vec t = v_expm1_positive(clamped + clamped);
    return v_copysign(t / (t + R(2)), x);
}

/* 1 / (1 + e^-x), 3 ULP; through e^-|x|, which can't overflow, so that small results keep their precision */
NNK_INLINE vec v_sigmoid(vec x)
{
    const vec e = v_exp(-v_abs(x));
    return v_select(v_less(x, v_all(0)), e, v_all(1)) / (R(1) + e);
}

/* log of 2^k (1 + f) + correction, with 1 + f in [√½, √2]:
 * log(1 + f) = f - (f²/2 - s (f²/2 + R)), s = f / (2 + f), R = z L(z), z = s² */
NNK_INLINE vec v_log_parts(vec f, vec k, vec correction)
{
    const vec s = f / (f + R(2));
    const vec z = s * s;
    vec p = v_all(NAME(log_c)[LOG_DEGREE]);
    for (int i = LOG_DEGREE - 1; i >= 0; i--)
        p = p * z + NAME(log_c)[i];
    const vec half_square = (f * f) * R(0.5);
    return k * LN2_HIGH - ((half_square - (s * (half_square + z * p) + (k * LN2_LOW + correction))) - f);
}

/* log(1 + x), 2 ULP; for x >= -1 (below: NaN), log1p(-1) = -inf, log1p(inf) = inf */
NNK_INLINE vec v_log1p(vec x)
{
    const vec u = R(1) + x;
    /* what rounding 1 + x lost, relative to u */
    const vec lost = v_select(v_less(v_all(1), x), R(1) - (u - x), x - (u - R(1))) / u;
    const ivec e = (((ivec)u - (ivec)v_all(SQRT_HALF)) >> MANTISSA_BITS);
    const ivec unscaled = (ivec)(e == 0);
    const vec mantissa = (vec)((ivec)u - (e << MANTISSA_BITS));
    const vec f = v_select(unscaled, x, mantissa - R(1));
    const vec correction = v_select(unscaled, v_all(0), lost);
    const vec k = __builtin_convertvector(e, vec);
    vec y = v_log_parts(f, k, correction);
    const real infinity = (real)__builtin_inf();
    y = v_select((ivec)(x == v_all(infinity)), x, y);
    y = v_select((ivec)(x == v_all(-1)), v_all(-infinity), y);
    return v_select(v_less(x, v_all(-1)) | v_is_nan(x), v_all((real)__builtin_nan("")), y);
}

/* log x, 1 ULP, for normal finite x > 0 or NaN */
NNK_INLINE vec v_log(vec x)
{
    const ivec e = (((ivec)x - (ivec)v_all(SQRT_HALF)) >> MANTISSA_BITS);
    const vec mantissa = (vec)((ivec)x - (e << MANTISSA_BITS));
    const vec y = v_log_parts(mantissa - R(1), __builtin_convertvector(e, vec), v_all(0));
    return v_select(v_is_nan(x), x, y);
}
