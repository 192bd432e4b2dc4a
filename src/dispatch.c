/* Looks at the processor once and picks the tables; and the few functions that exist once for all instruction sets. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "nnk.h"
#include "philox.h"

const nnk_activation_fact nnk_activation_facts[NNK_ACTIVATIONS] = {
#define A 0
#define Z 1
#define ELEMENTWISE(name, reads, g, dg) {#name, reads},
#define COLUMNWISE(name, reads) {#name, reads},
#include "activations.def"
#undef ELEMENTWISE
#undef COLUMNWISE
#undef A
#undef Z
};

extern const nnk_tables nnk_tables_baseline;
#ifdef NNK_X86
extern const nnk_tables nnk_tables_avx2, nnk_tables_avx512;
#endif

/* best first */
static const nnk_tables *const built[] = {
#ifdef NNK_X86
    &nnk_tables_avx512,
    &nnk_tables_avx2,
#endif
    &nnk_tables_baseline,
};
#define BUILT (sizeof built / sizeof built[0])

static int processor_runs(const nnk_tables *tables)
{
#ifdef NNK_X86
    __builtin_cpu_init();
    if (tables == &nnk_tables_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
    if (tables == &nnk_tables_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return tables == &nnk_tables_baseline;
}

const nnk_tables *nnk_choose_tables(void)
{
    const char *asked = getenv("NNKERN_ISA");
    for (size_t i = 0; i < BUILT; i++)
        if (processor_runs(built[i]) && (!asked || !*asked || !strcmp(asked, built[i]->isa)))
            return built[i];
    return NULL;
}

const char *const *nnk_usable_isas(void)
{
    static const char *names[BUILT + 1];
    size_t count = 0;
    for (size_t i = 0; i < BUILT; i++)
        if (processor_runs(built[i]))
            names[count++] = built[i]->isa;
    names[count] = NULL;
    return names;
}

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
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
