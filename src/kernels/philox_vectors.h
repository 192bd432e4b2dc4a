/* Philox4x32-10 for as many counters at once as a vector has 64-bit lanes: the same words as philox.h gives one by one.
 * Included once per instruction set. Knows nothing of what the words are for.
 *
 * A lane holds a 32-bit word in its lower half; what the upper half holds is never looked at.
 */
typedef uint64_t words64 __attribute__((vector_size(NNK_VECTOR_BYTES)));
#define PHILOX_LANES (NNK_VECTOR_BYTES / 8)
#define PHILOX_WORDS (4 * PHILOX_LANES)

/* the 64-bit products of the lower halves */
NNK_INLINE words64 product_of_lower(words64 a, words64 b)
{
#if defined(__x86_64__) && NNK_VECTOR_BYTES == 64
    return (words64)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__x86_64__) && NNK_VECTOR_BYTES == 32
    return (words64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__x86_64__) && NNK_VECTOR_BYTES == 16
    return (words64)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#endif
}

/* The words of the counters first … first + PHILOX_LANES - 1 (64 bits, with `stream` above them), four each, in order */
NNK_INLINE void philox_vectors(uint32_t words[PHILOX_WORDS], uint64_t first, uint64_t stream, uint64_t key)
{
    const words64 zero = {0}, lower = zero + 0xFFFFFFFFu;
    words64 lanes, from_first, from_second;
    for (int lane = 0; lane < PHILOX_LANES; lane++)
        lanes[lane] = (uint64_t)lane;
    words64 x0 = lanes + first, x1 = x0 >> 32, x2 = zero + stream, x3 = x2 >> 32;
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        const words64 p0 = product_of_lower(x0, zero + PHILOX_M0), p1 = product_of_lower(x2, zero + PHILOX_M1);
        x0 = (p1 >> 32) ^ x1 ^ (uint64_t)k0;
        x2 = (p0 >> 32) ^ x3 ^ (uint64_t)k1;
        x1 = p1;
        x3 = p0;
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    x0 = (x0 & lower) | x1 << 32;
    x2 = (x2 & lower) | x3 << 32;
    /* lanes of the two by turns: the first halves of both, then the second */
    for (int lane = 0; lane < PHILOX_LANES; lane++) {
        from_first[lane] = (uint64_t)(lane / 2 + lane % 2 * PHILOX_LANES);
        from_second[lane] = from_first[lane] + PHILOX_LANES / 2;
    }
    const words64 pairs[2] = {NNK_SHUFFLE(x0, x2, from_first), NNK_SHUFFLE(x0, x2, from_second)};
    memcpy(words, pairs, sizeof pairs);
}
