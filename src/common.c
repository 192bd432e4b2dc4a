/* What exists once for all instruction sets and precisions: facts, the order of examples, the clock, limits of memory. */
#ifdef _WIN32
#include <windows.h>
#else
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#endif
#include "nnk.h"
#include "philox.h"

const nnk_activation_fact nnk_activation_facts[NNK_ACTIVATIONS] = {
#define A 0
#define Z 1
#define ELEMENTWISE(name, reads, init, g, dg) {#name, reads, #init},
#define COLUMNWISE(name, reads, init) {#name, reads, #init},
#include "activations.def"
#undef ELEMENTWISE
#undef COLUMNWISE
#undef A
#undef Z
};

const nnk_loss_fact nnk_loss_facts[NNK_LOSSES] = {
#define ELEMENTWISE_LOSS(name, output, ...) {#name, NNK_##output},
#define COLUMNWISE_LOSS(name, output) {#name, NNK_##output},
#include "losses.def"
#undef ELEMENTWISE_LOSS
#undef COLUMNWISE_LOSS
};

const nnk_update_fact nnk_update_facts[NNK_UPDATES] = {
#define UPDATE(name, has_s1, has_s2) {#name, has_s1, has_s2},
#include "updates.def"
#undef UPDATE
};

void nnk_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) { philox(out, counter, key); }

/* Each draw takes 64 bits and reduces them to below `bound` by the high half of a product (Lemire 2019); the bias, below
 * bound / 2⁶⁴, can't be seen. */
void nnk_shuffle(int64_t *order, int64_t count, uint64_t key, uint64_t epoch)
{
    /* the last word keeps this stream apart from those of dropout, which leave it below 2³¹ */
    const uint32_t k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    uint32_t words[4] = {0};
    for (int64_t i = 0; i < count; i++)
        order[i] = i;
    for (int64_t i = count - 1, drawn = 0; i > 0; i--, drawn++) {
        if (drawn % 2 == 0) {
            const uint32_t counter[4] = {(uint32_t)(drawn / 2), (uint32_t)((uint64_t)drawn >> 33), (uint32_t)epoch,
                                         0x80000000u};
            philox(words, counter, k);
        }
        const uint64_t bits = ((uint64_t)words[2 * (drawn % 2)] << 32) | words[2 * (drawn % 2) + 1];
        const int64_t j = (int64_t)(((unsigned __int128)bits * (uint64_t)(i + 1)) >> 64);
        const int64_t taken = order[i];
        order[i] = order[j];
        order[j] = taken;
    }
}

double nnk_seconds(void)
{
#ifdef _WIN32
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (double)now.QuadPart / (double)frequency.QuadPart;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
}

int nnk_memory_is_limited(void)
{
#ifdef _WIN32
    return 0;
#else
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        return 1;
#ifdef __linux__
    static int strict = -1; /* whether Linux promises no more than it has */
    if (__atomic_load_n(&strict, __ATOMIC_RELAXED) < 0) {
        FILE *const file = fopen("/proc/sys/vm/overcommit_memory", "r");
        __atomic_store_n(&strict, file && fgetc(file) == '2', __ATOMIC_RELAXED);
        if (file)
            fclose(file);
    }
    return __atomic_load_n(&strict, __ATOMIC_RELAXED);
#else
    return 0;
#endif
#endif
}
