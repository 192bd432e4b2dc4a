/* Which of the kernels' tables this processor is to use. */
#ifndef NNK_DISPATCH_H
#define NNK_DISPATCH_H
#include "kernels/nnk.h"

/* The tables of the best instruction set of this processor, or of the one named by NNKERN_ISA; NULL where that name is
 * unknown, or the processor or the build lacks it. */
const nnk_tables *nnk_choose_tables(void);
/* Names of the instruction sets that this build holds and this processor runs, best first, ended by NULL. */
const char *const *nnk_usable_isas(void);

#endif
