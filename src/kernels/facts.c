/* What exists once for all instruction sets and precisions: the facts of the .def lists, and the order of examples. */
#include <assert.h>
#include "kernels/nnk.h"
#include "kernels/philox.h"

const nnk_activation_fact nnk_activation_facts[NNK_ACTIVATIONS] = {
#define A 0
#define Z 1
#define ELEMENTWISE(name, reads, init, g, dg) {#name, reads, #init},
#define COLUMNWISE(name, reads, init) {#name, reads, #init},
#include "kernels/activations.def"
#undef ELEMENTWISE
#undef COLUMNWISE
#undef A
#undef Z
};

const nnk_loss_fact nnk_loss_facts[NNK_LOSSES] = {
#define ELEMENTWISE_LOSS(name, output, score, ...) {#name, NNK_##output, NNK_score_##score},
#define COLUMNWISE_LOSS(name, output, score) {#name, NNK_##output, NNK_score_##score},
#include "kernels/losses.def"
#undef ELEMENTWISE_LOSS
#undef COLUMNWISE_LOSS
};

const nnk_update_fact nnk_update_facts[NNK_UPDATES] = {
#define UPDATE(name, has_s1, has_s2) {#name, has_s1, has_s2},
#include "kernels/updates.def"
#undef UPDATE
};

void nnk_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) { philox(out, counter, key); }

enum { DRAWS = 32 };

/* Each draw takes 64 bits and reduces them to below `bound` by the high half of a product (Lemire 2019); the bias, below
 * bound / 2⁶⁴, can't be seen. */
void nnk_shuffle(int64_t *order, int64_t count, uint64_t key, uint64_t epoch)
{
    /* the last word keeps this stream apart from those of dropout, which leave it below 2³¹ */
    const uint32_t k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    uint32_t words[4] = {0};
    assert(count >= 0 && (order || !count));
    for (int64_t i = 0; i < count; i++)
        order[i] = i;
    /* some draws at a time, so that their places, anywhere in memory, are on their way when they are swapped */
    int64_t places[DRAWS];
    for (int64_t i = count - 1, drawn = 0; i > 0;) {
        const int64_t draws = i < DRAWS ? i : DRAWS;
        for (int64_t d = 0; d < draws; d++, drawn++) {
            if (drawn % 2 == 0) {
                const uint32_t counter[4] = {(uint32_t)(drawn / 2), (uint32_t)((uint64_t)drawn >> 33), (uint32_t)epoch,
                                             0x80000000u};
                philox(words, counter, k);
            }
            const uint64_t bits = ((uint64_t)words[2 * (drawn % 2)] << 32) | words[2 * (drawn % 2) + 1];
            places[d] = (int64_t)(((unsigned __int128)bits * (uint64_t)(i - d + 1)) >> 64);
            __builtin_prefetch(order + places[d], 1);
        }
        for (int64_t d = 0; d < draws; d++, i--) {
            const int64_t taken = order[i];
            order[i] = order[places[d]];
            order[places[d]] = taken;
        }
    }
}
