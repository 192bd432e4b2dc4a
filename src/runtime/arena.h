/* Memory laid out by one function that runs twice: over an arena without a base it counts, over one with as many bytes it
 * hands out the pieces. Knows nothing of what they hold.
 */
#ifndef NNK_ARENA_H
#define NNK_ARENA_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define NNK_ALIGNMENT 64

typedef struct {
    char *base; /* aligned to NNK_ALIGNMENT; NULL: pieces are only counted */
    size_t used, size;
} nnk_arena;

/* The next `bytes` bytes, aligned to NNK_ALIGNMENT; NULL where they are only counted. A count that would overflow stays at
 * SIZE_MAX, which no allocation grants. */
static inline void *nnk_arena_take(nnk_arena *arena, size_t bytes)
{
    const size_t at = arena->used, gap = NNK_ALIGNMENT - 1;
    assert((uintptr_t)arena->base % NNK_ALIGNMENT == 0);
    if (bytes > SIZE_MAX - gap || (bytes + gap) / NNK_ALIGNMENT * NNK_ALIGNMENT > SIZE_MAX - at)
        arena->used = SIZE_MAX;
    else
        arena->used = at + (bytes + gap) / NNK_ALIGNMENT * NNK_ALIGNMENT;
    if (!arena->base)
        return NULL;
    assert(arena->used <= arena->size);
    return arena->base + at;
}

/* Memory for all that has been counted, which the arena now hands out; to be freed. NULL where there is none. */
static inline void *nnk_arena_provide(nnk_arena *arena)
{
    const size_t gap = NNK_ALIGNMENT - 1;
    char *const memory = arena->used > SIZE_MAX - gap ? NULL : malloc(arena->used + gap);
    arena->size = arena->used;
    arena->used = 0;
    arena->base = memory ? memory + (size_t)-(uintptr_t)memory % NNK_ALIGNMENT : NULL;
    return memory;
}

#endif
