/* The table of one precision: the functions that the files before it define, and those of sums.c, by the names of nnk.h. */

static const real NAME(one) = 1;
static double NAME(rounded)(double x) { return R(x); }

static const nnk_table NAME(table) = {
    .itemsize = sizeof(real),
    .pack_bytes = PACK_BYTES,
    .one = &NAME(one),
    .rounded = NAME(rounded),
#define ELEMENTWISE(name, reads, init, g, dg) [NNK_##name] = NAME(name##_forward),
#define COLUMNWISE(name, reads, init) [NNK_##name] = NAME(name##_forward),
    .forward = {
#include "kernels/activations.def"
    },
#undef ELEMENTWISE
#undef COLUMNWISE
#define ELEMENTWISE(name, reads, init, g, dg) [NNK_##name] = NAME(name##_backward),
#define COLUMNWISE(name, reads, init) [NNK_##name] = NAME(name##_backward),
    .backward = {
#include "kernels/activations.def"
    },
#undef ELEMENTWISE
#undef COLUMNWISE
#define ENTRY(name) [NNK_##name] = NAME(name)
#define ELEMENTWISE_LOSS(name, output, score, ...) ENTRY(name),
#define COLUMNWISE_LOSS(name, output, score) ENTRY(name),
    .loss = {
#include "kernels/losses.def"
    },
#undef ELEMENTWISE_LOSS
#undef COLUMNWISE_LOSS
#define UPDATE(name, has_s1, has_s2) ENTRY(name),
    .update = {
#include "kernels/updates.def"
    },
#undef UPDATE
#undef ENTRY
    .gemm = NAME(gemm),
    .gemm_block = NAME(gemm_block),
    .dots = NAME(dots),
    .add_columns = NAME(add_columns),
    .pack_weights = NAME(pack_weights),
    .packed_bytes = NAME(packed_bytes),
    .packed_parts = NAME(packed_parts),
    .packed_first = NAME(packed_first),
    .packed_by_rows = NAME(packed_by_rows),
    .packed_times_vector = NAME(packed_times_vector),
    .unpacked = NAME(unpacked),
    .dropout = NAME(dropout),
    .gather = NAME(gather),
    .scatter = NAME(scatter),
    .scale = NAME(scale),
    .add = NAME(add),
    .clip = NAME(clip),
    .first_nonfinite = NAME(first_nonfinite),
#define SCORE(name) [NNK_score_##name] = NAME(nnk_score_##name)
    .score = {SCORE(argmax), SCORE(sides), SCORE(squares)},
#undef SCORE
    .total = NAME(nnk_total),
    .magnitudes = NAME(nnk_magnitudes),
    .penalty = NAME(nnk_penalty),
    .scale_rows = NAME(scale_rows),
    .add_row_products = NAME(add_row_products),
    .number_kept = NAME(number_kept),
    .encode_number = NAME(encode_number),
    .encode_gradient = NAME(encode_gradient),
    .first_bad_code = NAME(first_bad_code),
    .read_codes = NAME(read_codes),
    .columns = {NAME(sum_columns), NAME(add_to_columns), NAME(add_products_of_columns), NAME(sum_sparse),
                NAME(add_to_sparse)},
    .put_ones = NAME(put_ones),
    .mix_rows = NAME(mix_rows),
    .add_row_differences = NAME(add_row_differences),
    .multiply_adds = NAME(multiply_adds),
};
