/* Looks at the processor once and picks the tables. */
#define _GNU_SOURCE /* syscall */
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
extern const nnk_reduced nnk_reduced_avx512_bf16, nnk_reduced_avx512_vnni;
#ifdef NNK_AMX
extern const nnk_reduced nnk_reduced_amx;
#endif

static int runs_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

static int runs_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static int runs_avx512_vnni(void) { return runs_avx512() && __builtin_cpu_supports("avx512vnni"); }

static int runs_avx512_bf16(void) { return runs_avx512_vnni() && __builtin_cpu_supports("avx512bf16"); }

/* Intel's processors take four times as long for a pair as for two terms: there it is chosen by name only. */
static int pairs_pay(void) { return __builtin_cpu_is("intel") == 0; }

#ifdef NNK_AMX
/* Linux gives a process the registers of tiles when it asks for them. */
enum { ARCH_GET_XCOMP_SUPP = 0x1021, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

static int runs_amx(void)
{
    unsigned eax, ebx, ecx, edx = 0;
    unsigned long supported = 0;
    const unsigned bf16_tiles_int8 = 1u << 22 | 1u << 24 | 1u << 25;
    return runs_avx512_bf16() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
           (edx & bf16_tiles_int8) == bf16_tiles_int8 && !syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &supported) &&
           supported >> XFEATURE_XTILEDATA & 1;
}

static int may_use_tiles(void) { return !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA); }
#endif
#endif

static int always(void) { return 1; }

/* best first; `bf16` and `int8`: products of these where the tables' own aren't meant */
static const struct {
    const char *name;
    const nnk_tables *tables;
    const nnk_reduced *bf16, *int8;
    int (*runs)(void), (*pays)(void);
} built[] = {
#ifdef NNK_X86
#ifdef NNK_AMX
    {"amx", &nnk_tables_avx512, &nnk_reduced_amx, &nnk_reduced_amx, runs_amx, always},
#endif
    {"avx512_bf16", &nnk_tables_avx512, &nnk_reduced_avx512_bf16, &nnk_reduced_avx512_vnni, runs_avx512_bf16, pairs_pay},
    {"avx512_vnni", &nnk_tables_avx512, NULL, &nnk_reduced_avx512_vnni, runs_avx512_vnni, always},
    {"avx512", &nnk_tables_avx512, NULL, NULL, runs_avx512, always},
    {"avx2", &nnk_tables_avx2, NULL, NULL, runs_avx2, always},
#endif
    {"baseline", &nnk_tables_baseline, NULL, NULL, always, always},
};
#define BUILT (sizeof built / sizeof built[0])

static nnk_tables chosen;
static nnk_reduced chosen_reduced;

/* Where there are no instructions for it (NULL), bfloat16 is multiplied as the table's own kernels do. */
static void set_reduced(const nnk_reduced *own, const nnk_reduced *bf16, const nnk_reduced *int8)
{
    chosen_reduced = bf16 ? *bf16 : *own;
    chosen_reduced.columns = own->columns;
    chosen_reduced.packed[NNK_int8] = int8 ? int8->packed[NNK_int8] : NULL;
    chosen.reduced = &chosen_reduced;
}

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
            set_reduced(built[i].tables->reduced, built[i].bf16, built[i].int8);
            return &chosen;
        }
    return NULL;
}

/* Before a reduced product runs for the first time */
static void ask_for_registers(void)
{
#ifdef NNK_AMX
    static int asked;
    if (!asked && !strcmp(chosen.isa, "amx") && !may_use_tiles())
        set_reduced(nnk_tables_avx512.reduced, NULL, &nnk_reduced_avx512_vnni);
    asked = 1;
#endif
}

const nnk_table *nnk_bf16_table(void)
{
    static nnk_table table;
    ask_for_registers();
    table = *chosen.f32;
    table.gemm_block = chosen_reduced.gemm_block;
    table.gemm = chosen_reduced.gemm;
    table.columns = chosen_reduced.columns;
    return &table;
}

nnk_packed_product nnk_product_of(int weights)
{
    ask_for_registers();
    return chosen_reduced.packed[weights];
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
