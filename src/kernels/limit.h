/* The processor's limit: multiply-adds in registers alone, which every product is held against. For the benchmarks; knows
 * nothing of matrices.
 */

/* Independent chains: as many as two units with a latency of four cycles need, and some; with the two constants they fit
 * sixteen registers. */
#define CHAINS 12
#define RUNS 64

/* Each of `rounds` rounds does RUNS steps z := z/2 + 1 in every lane of every chain: they tend to 2, so that nothing
 * overflows or gets denormal. Adds the sum of all lanes to *sum (so that the work can't be left out); returns the flops. */
static double NAME(multiply_adds)(double *sum, ptrdiff_t rounds)
{
    volatile real half_ = R(0.5), one_ = R(1);
    const vec half = v_all(half_), one = v_all(one_);
    vec z[CHAINS];
    assert(sum && rounds >= 0);
    for (int chain = 0; chain < CHAINS; chain++)
        z[chain] = v_all(R(chain) * one_);
    for (ptrdiff_t round = 0; round < rounds; round++)
        for (int run = 0; run < RUNS; run++)
#pragma GCC unroll 12
            for (int chain = 0; chain < CHAINS; chain++)
                z[chain] = z[chain] * half + one;
    for (int chain = 0; chain < CHAINS; chain++)
        *sum += v_sum(z[chain]);
    return 2.0 * LANES * CHAINS * RUNS * (double)rounds;
}

#undef CHAINS
#undef RUNS
