/* Looks at the processor once and picks the tables. */
#include <stdlib.h>
#include <string.h>
#if defined(NNK_X86) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef NNK_X86
#include <cpuid.h>
#endif
#include "kernels/nnk.h"

extern const nnk_tables nnk_tables_baseline;
#ifdef NNK_X86
extern const nnk_tables nnk_tables_avx2, nnk_tables_avx512;
extern const nnk_bf16_products nnk_bf16_products_avx512_bf16;
#ifdef NNK_AMX
extern const nnk_bf16_products nnk_bf16_products_amx;
#endif

static int runs_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

static int runs_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static int runs_avx512_bf16(void) { return runs_avx512() && __builtin_cpu_supports("avx512bf16"); }

/* Intel's processors take four times as long for a pair as for two terms: there it is chosen by name only. */
static int pairs_pay(void) { return __builtin_cpu_is("intel") == 0; }

#ifdef NNK_AMX
/* Linux gives a process the registers of tiles when it asks for them. */
enum { ARCH_GET_XCOMP_SUPP = 0x1021, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

static int runs_amx(void)
{
    unsigned eax, ebx, ecx, edx = 0;
    unsigned long supported = 0;
    const unsigned bf16_and_tiles = 1u << 22 | 1u << 24;
    return runs_avx512_bf16() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
           (edx & bf16_and_tiles) == bf16_and_tiles && !syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &supported) &&
           supported >> XFEATURE_XTILEDATA & 1;
}

static int may_use_tiles(void) { return !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA); }
#endif
#endif

static int always(void) { return 1; }

/* best first; `bf16`: products of bfloat16, where the tables' own aren't meant */
static const struct {
    const char *name;
    const nnk_tables *tables;
    const nnk_bf16_products *bf16;
    int (*runs)(void), (*pays)(void);
} built[] = {
#ifdef NNK_X86
#ifdef NNK_AMX
    {"amx", &nnk_tables_avx512, &nnk_bf16_products_amx, runs_amx, always},
#endif
    {"avx512_bf16", &nnk_tables_avx512, &nnk_bf16_products_avx512_bf16, runs_avx512_bf16, pairs_pay},
    {"avx512", &nnk_tables_avx512, NULL, runs_avx512, always},
    {"avx2", &nnk_tables_avx2, NULL, runs_avx2, always},
#endif
    {"baseline", &nnk_tables_baseline, NULL, always, always},
};
#define BUILT (sizeof built / sizeof built[0])

static nnk_tables chosen;

const nnk_tables *nnk_choose_tables(void)
{
    const char *asked = getenv("NNKERN_ISA");
    const int by_name = asked && *asked;
#ifdef NNK_X86
    __builtin_cpu_init();
#endif
    for (size_t i = 0; i < BUILT; i++)
        if (built[i].runs() && (by_name ? !strcmp(asked, built[i].name) : built[i].pays())) {
            chosen = *built[i].tables;
            chosen.isa = built[i].name;
            if (built[i].bf16)
                chosen.bf16 = built[i].bf16;
            return &chosen;
        }
    return NULL;
}

const nnk_table *nnk_bf16_table(void)
{
    static nnk_table table;
    if (table.gemm)
        return &table;
#ifdef NNK_AMX
    if (chosen.bf16 == &nnk_bf16_products_amx && !may_use_tiles())
        chosen.bf16 = nnk_tables_avx512.bf16;
#endif
    table = *chosen.f32;
    table.gemm_block = chosen.bf16->gemm_block;
    table.gemm = chosen.bf16->gemm;
    return &table;
}

const char *const *nnk_usable_isas(void)
{
    static const char *names[BUILT + 1];
    size_t count = 0;
#ifdef NNK_X86
    __builtin_cpu_init();
#endif
    for (int pays = 1; pays >= 0; pays--)
        for (size_t i = 0; i < BUILT; i++)
            if (built[i].runs() && built[i].pays() == pays)
                names[count++] = built[i].name;
    names[count] = NULL;
    return names;
}
