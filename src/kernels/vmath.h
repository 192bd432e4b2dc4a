/* exp, tanh, sigmoid, log, log1p, sin and cos, and the normal distribution's Φ on vectors, and what activations are made of them, for
 * every argument: NaN gives NaN, infinities and subnormals are right, nothing traps and no floating-point mode is touched.
 * Largest errors are stated with each function (in units in the last place, both precisions, with and without fused
 * multiply-add); tests/test_kernels_activations.py holds them.
 * The coefficients come from tools/minimax.py. Included once per precision and instruction set, after simd.h.
 */
#define v_exp NAME(v_exp)
#define v_exp_times NAME(v_exp_times)
#define v_expm1 NAME(v_expm1)
#define v_expm1_parts NAME(v_expm1_parts)
#define v_bounded NAME(v_bounded)
#define v_polynomial NAME(v_polynomial)
#define v_normal_times NAME(v_normal_times)
#define v_mills NAME(v_mills)
#define v_softplus NAME(v_softplus)
#define v_sigmoid_and_slope NAME(v_sigmoid_and_slope)
#define v_silu NAME(v_silu)
#define v_silu_slope NAME(v_silu_slope)
#define v_mish NAME(v_mish)
#define v_mish_slope NAME(v_mish_slope)
#define v_gelu NAME(v_gelu)
#define v_gelu_slope NAME(v_gelu_slope)
#define v_upper_half NAME(v_upper_half)
#define v_gelu_tanh_u NAME(v_gelu_tanh_u)
#define v_gelu_tanh NAME(v_gelu_tanh)
#define v_gelu_tanh_slope NAME(v_gelu_tanh_slope)
#define v_hard_swish NAME(v_hard_swish)
#define v_hard_swish_slope NAME(v_hard_swish_slope)
#define v_tanh NAME(v_tanh)
#define v_sigmoid NAME(v_sigmoid)
#define v_log1p NAME(v_log1p)
#define v_log NAME(v_log)
#define v_log_parts NAME(v_log_parts)
#define v_sincos NAME(v_sincos)
#define v_power_of_two NAME(v_power_of_two)
#define v_scaled NAME(v_scaled)

/* EXP_LOWEST e^EXP_LOWEST is 0, and so is NORMAL_HIGHEST Φ(-NORMAL_HIGHEST).
 * GELU_A + GELU_A_LOW = 2 √(2/π), GELU_B_UPPER + GELU_B_LOW = 2 √(2/π) 0.044715; GELU_B_UPPER has half of the bits.
 * ln2 = LN2_HIGH + LN2_LOW; LN2_HIGH has so many trailing zero bits that n LN2_HIGH is exact for every exponent n.
 * π/2 is the sum of the four pieces of SINCOS_PI; multiples of the first three are exact up to SINCOS_HIGHEST. */
#if REAL_BITS == 32
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define LN2_HIGH R(0.693145751953125)
#define LN2_LOW R(1.42860682030941723e-6)
#define EXP_HIGHEST R(90)
#define EXP_LOWEST R(-120)
#define TANH_IS_ONE R(10)
#define SQRT_HALF R(0.707106769)
#define NORMAL_HIGHEST R(15)
#define GELU_A R(1.5957691669464111)
#define GELU_A_LOW R(-4.5340680543404233e-8)
#define GELU_B_UPPER R(0.07135009765625)
#define GELU_B_LOW R(4.7186163101287093e-6)
static const real NAME(exp_c)[] = {R(0.5), R(0.166665763), R(0.0416663736), R(0.00836319011), R(0.00139411399)};
static const real NAME(log_c)[] = {R(0.666666687), R(0.400001228), R(0.285507321), R(0.233325496)};
#define SINCOS_HIGHEST R(8192)
static const real NAME(sincos_pi)[] = {
    R(1.5703125), R(4.837512969970703125e-4), R(7.549533620476722717285e-8), R(2.56334415159e-12)};
static const real NAME(sin_c)[] = {R(-0.166666642), R(0.00833274797), R(-0.000195877627)};
static const real NAME(cos_c)[] = {R(0.0416666642), R(-0.00138883025), R(2.4547795e-5)};
static const real NAME(mills_c)[] = {
    R(0.100913674), R(-0.23842153), R(0.255521178), R(-0.198256239), R(0.119551599), R(-0.0556301586),
    R(0.01860906), R(-0.0032255603), R(-0.000726681552), R(0.000399810437)};
#else
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define LN2_HIGH R(0.69314718036912381649)
#define LN2_LOW R(1.9082149292705877e-10)
#define EXP_HIGHEST R(720)
#define EXP_LOWEST R(-760)
#define TANH_IS_ONE R(20)
#define SQRT_HALF R(0.70710678118654757)
#define NORMAL_HIGHEST R(39.5)
#define GELU_A R(1.5957691216057308)
#define GELU_A_LOW R(-9.9693088091109202e-17)
#define GELU_B_UPPER R(0.071354815736413002014)
#define GELU_B_LOW R(5.3618724676217855e-10)
static const real NAME(exp_c)[] = {
    R(0.5), R(0.16666666666666674), R(0.041666666666624073), R(0.0083333333333221824), R(0.0013888888917239393),
    R(0.00019841269886672062), R(2.4801521256394844e-5), R(2.7557242241911524e-6), R(2.7620107155716606e-7),
    R(2.5110086344017077e-8)};
static const real NAME(log_c)[] = {
    R(0.66666666666666696), R(0.39999999999898356), R(0.28571428626440065), R(0.22222211066200287),
    R(0.18182893701079442), R(0.1533158096765404), R(0.14618069931285366)};
#define SINCOS_HIGHEST R(1e6)
static const real NAME(sincos_pi)[] = {
    R(1.57079632673412561416626), R(6.077100506303965976595549e-11), R(2.022266248711166455795996e-21),
    R(8.478427660368899644e-32)};
static const real NAME(sin_c)[] = {
    R(-0.16666666666666666), R(0.0083333333333309393), R(-0.000198412698367434), R(2.7557316094527572e-6),
    R(-2.5051130147759801e-8), R(1.5918005599442224e-10)};
static const real NAME(cos_c)[] = {
    R(0.041666666666666664), R(-0.0013888888888887391), R(2.4801587298756023e-5), R(-2.7557317266632158e-7),
    R(2.0876145192299075e-9), R(-1.1382554114383981e-11)};
static const real NAME(mills_c)[] = {
    R(0.10091368187039239), R(-0.23842161795428138), R(0.25552044368594756), R(-0.19825360154026037),
    R(0.11956460342726404), R(-0.055646414866477284), R(0.018527406555741237), R(-0.0032197857169527985),
    R(-0.00054267597504777565), R(0.00050097420705457591), R(-7.5681220387416645e-5), R(-4.2007086076246533e-5),
    R(1.7451975487191396e-5), R(2.9256140239199669e-6), R(-2.781796701573786e-6), R(-1.9153775724395896e-7),
    R(4.3133533465697946e-7), R(2.271482361430929e-8), R(-6.6165388843899139e-8), R(-7.7983540730129316e-9),
    R(7.543783887934398e-9), R(1.9569505860629097e-9)};
#endif
#define EXP_DEGREE ((int)(sizeof NAME(exp_c) / sizeof(real)) - 1)
#define LOG_DEGREE ((int)(sizeof NAME(log_c) / sizeof(real)) - 1)
#define SINCOS_DEGREE ((int)(sizeof NAME(sin_c) / sizeof(real)) - 1)
#define MILLS_DEGREE ((int)(sizeof NAME(mills_c) / sizeof(real)) - 1)
/* adding it leaves a number rounded to the nearest integer in the low bits */
#define ROUNDER R(1.5 * (double)((int64_t)1 << MANTISSA_BITS))

/* 2^n for n in the range of normal exponents */
NNK_INLINE vec v_power_of_two(ivec n) { return (vec)((n + EXPONENT_BIAS) << MANTISSA_BITS); }

/* y 2^n, rounded once, for |n| up to twice the range of exponents; n comes as a number and as an integer */
NNK_INLINE vec v_scaled(vec y, vec n_real, ivec n)
{
#ifdef __AVX512F__
    (void)n;
    return (vec)INTRINSIC(scalef)((RAW)y, (RAW)n_real);
#else
    const ivec half = n >> 1;
    (void)n_real;
    return (y * v_power_of_two(half)) * v_power_of_two(n - half);
#endif
}

/* x between two numbers; NaN stays NaN */
NNK_INLINE vec v_bounded(vec x, real lowest, real highest)
{
    return v_min(v_max(x, v_all(lowest)), v_all(highest));
}

/* c_0 + c_1 x + … by Horner's rule; `degree` is a constant */
NNK_INLINE vec v_polynomial(const real *c, const int degree, vec x)
{
    vec p = v_all(c[degree]);
    for (int k = degree - 1; k >= 0; k--)
        p = p * x + c[k];
    return p;
}

/* x - less = n ln2 + r, |r| <= ln2/2: returns e^r - 1, and n twice. `less` is small beside x. */
NNK_INLINE vec v_expm1_parts(vec x, vec less, vec *n_real, ivec *n)
{
    const vec t = (x - less) * R(1.44269504088896340736) + ROUNDER;
    *n_real = t - ROUNDER;
    const vec r = ((x - *n_real * LN2_HIGH) - *n_real * LN2_LOW) - less;
    *n = (ivec)t - (ivec)v_all(ROUNDER);
    return (r * r) * v_polynomial(NAME(exp_c), EXP_DEGREE, r) + r;
}

/* y e^(x - less), 1 ULP beside y's; `less` corrects an x that isn't exact. The power of two is applied last, so that a
 * small result is rounded once. */
NNK_INLINE vec v_exp_times(vec y, vec x, vec less)
{
    vec n_real;
    ivec n;
    const vec q = v_expm1_parts(v_bounded(x, EXP_LOWEST, EXP_HIGHEST), less, &n_real, &n);
    return v_scaled(y + q * y, n_real, n);
}

/* e^x, 1 ULP */
NNK_INLINE vec v_exp(vec x) { return v_exp_times(v_all(1), x, v_all(0)); }

/* e^x - 1 up to x = 2 TANH_IS_ONE, whose value all larger x give; 2 ULP: 2^n (e^r - 1) + (2^n - 1), where little cancels */
NNK_INLINE vec v_expm1(vec x)
{
    vec n_real;
    ivec n;
    const vec q = v_expm1_parts(v_bounded(x, -2 * TANH_IS_ONE, 2 * TANH_IS_ONE), v_all(0), &n_real, &n);
    const vec two_n = v_power_of_two(n);
    return two_n * q + (two_n - R(1));
}

/* tanh x = t / (t + 2) with t = e^(2|x|) - 1, 3 ULP */
NNK_INLINE vec v_tanh(vec x)
{
    const vec t = v_expm1(R(2) * v_abs(x));
    return v_copysign(t / (t + R(2)), x);
}

/* 1 / (1 + e^-x), 3 ULP; through e^-|x|, which can't overflow, so that small results keep their precision */
NNK_INLINE vec v_sigmoid(vec x)
{
    const vec e = v_exp(-v_abs(x));
    return v_select(v_less(x, v_all(0)), e, v_all(1)) / (R(1) + e);
}

/* log of 2^k (1 + f), with 1 + f in [√½, √2]:
 * log(1 + f) = f - (f²/2 - s (f²/2 + R)), s = f / (2 + f), R = z L(z), z = s² */
NNK_INLINE vec v_log_parts(vec f, vec k)
{
    const vec s = f / (f + R(2));
    const vec z = s * s;
    const vec p = v_polynomial(NAME(log_c), LOG_DEGREE, z);
    const vec half_square = (f * f) * R(0.5);
    return k * LN2_HIGH - ((half_square - (s * (half_square + z * p) + k * LN2_LOW)) - f);
}

/* log(1 + x) for 0 <= x <= 1 or NaN, 2 ULP; from √2 - 1 on as log 2 + log(1 + (x - 1) / 2), where x - 1 is exact */
NNK_INLINE vec v_log1p(vec x)
{
    const ivec large = v_less(v_all(R(0.41421356237309504880)), x);
    return v_log_parts(v_select(large, (x - R(1)) * R(0.5), x), v_select(large, v_all(1), v_all(0)));
}

/* log x, 1 ULP, for normal finite x > 0 or NaN */
NNK_INLINE vec v_log(vec x)
{
    const ivec e = (((ivec)x - (ivec)v_all(SQRT_HALF)) >> MANTISSA_BITS);
    const vec mantissa = (vec)((ivec)x - (e << MANTISSA_BITS));
    const vec y = v_log_parts(mantissa - R(1), __builtin_convertvector(e, vec));
    return v_select(v_is_nan(x), x, y);
}

/* t without the lower half of its bits: products of two such numbers are exact */
NNK_INLINE vec v_upper_half(vec t) { return (vec)((ivec)t & ~(((integer)1 << (MANTISSA_BITS / 2 + 1)) - 1)); }

/* y e^(-t²/2) for 0 <= t <= NORMAL_HIGHEST, 2 ULP beside y's: t² is taken as high² + (t - high)(t + high) */
NNK_INLINE vec v_normal_times(vec y, vec t)
{
    const vec high = v_upper_half(t);
    return v_exp_times(y, R(-0.5) * (high * high), R(0.5) * ((t - high) * (t + high)));
}

/* e^(t²/2) Φ(-t) for 0 <= t <= NORMAL_HIGHEST (Mills' ratio over √2π), 2 ULP: (7/8 + h Q(h - 1)) / (7/4 + 35/16 t) with
 * h = 2 t / (t + 5) */
NNK_INLINE vec v_mills(vec t)
{
    const vec h = (t + t) / (t + R(5));
    const vec P = h * v_polynomial(NAME(mills_c), MILLS_DEGREE, h - R(1)) + R(0.875);
    return P / (R(1.75) + R(2.1875) * t);
}

/* log(1 + e^x) = max(x, 0) + log1p(e^-|x|), 4 ULP */
NNK_INLINE vec v_softplus(vec x)
{
    return v_select(v_less(x, v_all(0)), v_all(0), x) + v_log1p(v_exp(-v_abs(x)));
}

/* x σ(x), 4 ULP: x / (1 + e^-x), or below 0 x e^x / (1 + e^x). Here as below, x is kept from -∞, whose product with 0 would
 * be NaN. */
NNK_INLINE vec v_silu(vec x)
{
    const ivec negative = v_less(x, v_all(0));
    const vec e = v_exp(-v_abs(x)), xe = v_exp_times(v_bounded(x, EXP_LOWEST, R(0)), -v_abs(x), v_all(0));
    return v_select(negative, xe, x) / (R(1) + e);
}

/* σ(x) and its derivative, e / (1 + e)² with e = e^-|x| */
NNK_INLINE vec v_sigmoid_and_slope(vec x, vec *slope)
{
    const vec e = v_exp(-v_abs(x)), inverse = R(1) / (R(1) + e);
    *slope = e * (inverse * inverse);
    return v_select(v_less(x, v_all(0)), e, v_all(1)) * inverse;
}

/* silu's derivative, σ(x) + x σ'(x) */
NNK_INLINE vec v_silu_slope(vec x)
{
    vec slope;
    const vec s = v_sigmoid_and_slope(x, &slope);
    return s + v_bounded(x, EXP_LOWEST, -EXP_LOWEST) * slope;
}

/* x tanh(log(1 + e^x)) = x n / (n + 2), n = e^x (e^x + 2), 4 ULP; from MISH_IS_X on n + 2 is n */
#define MISH_IS_X R(40)
NNK_INLINE vec v_mish(vec x)
{
    const vec bounded = v_bounded(x, EXP_LOWEST, MISH_IS_X);
    const vec e = v_exp(bounded), n_2 = e * (e + R(2)) + R(2);
    const vec xe = v_exp_times(bounded, bounded, v_all(0));
    return v_select(v_less(x, v_all(MISH_IS_X)), xe * ((e + R(2)) / n_2), x);
}

/* its derivative, (n + 4 x e^x (e^x + 1) / (n + 2)) / (n + 2) */
NNK_INLINE vec v_mish_slope(vec x_)
{
    const vec x = v_bounded(x_, EXP_LOWEST, MISH_IS_X);
    const vec e = v_exp(x), n = e * (e + R(2));
    return (n + (R(4) * x) * ((e * (e + R(1))) / (n + R(2)))) / (n + R(2));
}

/* x Φ(x), 4 ULP: x Φ(-|x|) below 0, else x - x Φ(-x) */
NNK_INLINE vec v_gelu(vec x)
{
    const vec t = v_bounded(v_abs(x), R(0), NORMAL_HIGHEST);
    const vec tail = v_normal_times(-t * v_mills(t), t);
    return v_select(v_less(x, v_all(0)), tail, x + tail);
}

/* its derivative, Φ(x) + x e^(-x²/2) / √2π */
NNK_INLINE vec v_gelu_slope(vec x)
{
    const vec t = v_bounded(v_abs(x), R(0), NORMAL_HIGHEST), e = v_normal_times(v_all(1), t), tail = e * v_mills(t);
    const vec Phi = v_select(v_less(x, v_all(0)), tail, R(1) - tail);
    return Phi + v_copysign(t, x) * (e * R(0.39894228040143267794));
}

/* u = 2 √(2/π) (x + 0.044715 x³) = t (a + b t²) for 0 <= t <= GELU_TANH_IS_STEP, as a sum whose second term is small: an
 * error of u is one of e^u as many times larger as u is. All products in `high` terms are of halves, hence exact. */
#define GELU_SCALE R(1.5957691216057307118)
#define GELU_CUBE R(0.044715)
#define GELU_TANH_IS_STEP R(30)
NNK_INLINE vec v_gelu_tanh_u(vec t, vec *low)
{
    const vec t1 = v_upper_half(t), t2 = t - t1;
    const vec square1 = v_upper_half(t * t), square2 = (t1 * t1 - square1) + t2 * (t + t1);
    /* a + b t², with what its rounding leaves */
    const vec product = GELU_B_UPPER * square1, sum = product + GELU_A, grown = sum - GELU_A;
    const vec rest = (GELU_A - (sum - grown)) + (product - grown);
    const vec factor1 = v_upper_half(sum);
    const vec factor2 = (sum - factor1) + (rest + (GELU_A_LOW + (GELU_B_LOW * square1 + (GELU_B_UPPER + GELU_B_LOW) * square2)));
    *low = t2 * factor1 + t * factor2;
    return t1 * factor1;
}

/* x (1 + tanh(u / 2)) / 2 = x σ(u), 4 ULP: x / (1 + e^-u), or below 0 x e^u / (1 + e^u) */
NNK_INLINE vec v_gelu_tanh(vec x)
{
    vec low;
    const vec high = v_gelu_tanh_u(v_bounded(v_abs(x), R(0), GELU_TANH_IS_STEP), &low);
    const vec e = v_exp_times(v_all(1), -high, low);
    const vec xe = v_exp_times(v_bounded(x, -GELU_TANH_IS_STEP, R(0)), -high, low);
    return v_select(v_less(x, v_all(0)), xe, x) / (R(1) + e);
}

/* its derivative, σ(u) + x σ'(u) u' */
NNK_INLINE vec v_gelu_tanh_slope(vec x_)
{
    const vec x = v_bounded(x_, -GELU_TANH_IS_STEP, GELU_TANH_IS_STEP);
    vec slope;
    const vec s = v_sigmoid_and_slope(GELU_SCALE * (x + GELU_CUBE * (x * x) * x), &slope);
    return s + (x * slope) * (GELU_SCALE * (R(1) + (3 * GELU_CUBE) * (x * x)));
}

/* x min(max(x + 3, 0), 6) / 6, 3 ULP; and its derivative, 0 at -3 and 1 at 3 */
NNK_INLINE vec v_hard_swish(vec x)
{
    const vec inner = v_select(v_less(x, v_all(3)), (x * (x + R(3))) * R(1.0 / 6), x);
    return v_select(v_less_equal(x, v_all(-3)), v_all(0), inner);
}

NNK_INLINE vec v_hard_swish_slope(vec x)
{
    const vec inner = v_select(v_less_equal(v_all(3), x), v_all(1), x * R(1.0 / 3) + R(0.5));
    return v_select(v_less_equal(x, v_all(-3)), v_all(0), inner);
}

/* sin x and cos x, 2.3 ULP for |x| <= SINCOS_HIGHEST; beyond it, where few know what they ask for, the library's */
NNK_INLINE void v_sincos(vec x, vec *sine, vec *cosine)
{
    const vec t = x * R(0.63661977236758134308) + ROUNDER, n_real = t - ROUNDER;
    const ivec n = (ivec)t - (ivec)v_all(ROUNDER), odd = -(n & 1);
    vec r = x;
    for (int piece = 0; piece < 4; piece++)
        r -= v_rounded(n_real * NAME(sincos_pi)[piece]);
    const vec z = r * r;
    const vec s = r + r * (z * v_polynomial(NAME(sin_c), SINCOS_DEGREE, z));
    const vec c = 1 - (z * R(0.5) - z * z * v_polynomial(NAME(cos_c), SINCOS_DEGREE, z));
    /* quarter turns exchange the two, and change signs */
    const ivec sine_sign = (n & 2) << (REAL_BITS - 2), cosine_sign = ((n + 1) & 2) << (REAL_BITS - 2);
    *sine = (vec)((ivec)v_select(odd, c, s) ^ sine_sign);
    *cosine = (vec)((ivec)v_select(odd, s, c) ^ cosine_sign);
    if (v_highest(v_abs(x)) > SINCOS_HIGHEST)
        for (int lane = 0; lane < LANES; lane++)
            if (!(x[lane] <= SINCOS_HIGHEST && x[lane] >= -SINCOS_HIGHEST)) {
                (*sine)[lane] = R(__builtin_sin((double)x[lane]));
                (*cosine)[lane] = R(__builtin_cos((double)x[lane]));
            }
}
