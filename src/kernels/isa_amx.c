/* Products of bfloat16 by the tiles of AMX. */
#define NNK_ISA amx
#define NNK_BF16_PAIRS
#define NNK_BF16_TILES
#include "kernels/isa_bf16.h"
