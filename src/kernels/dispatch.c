/* Looks at the processor once and picks the tables. */
#include <stdlib.h>
#include <string.h>
#include "kernels/nnk.h"

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
