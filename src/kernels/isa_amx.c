/* Products of bfloat16 and int8 by the tiles of AMX. */
#define NNK_ISA amx
#define NNK_BF16_PAIRS
#define NNK_INT8
#define NNK_BF16_TILES
#include "kernels/isa_reduced.h"
