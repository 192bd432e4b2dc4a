/* Weights of a frozen network, laid out for one example: z = W x reads them in one stream from the first to the last.
 *
 * A layer's W (n, n_prev) is cut into panels of PANEL_VECTORS vectors of units (the last may have fewer). Within a panel
 * come, for k = 0, 1, …, the weights of all its units for input k: the sums of a panel stay in registers, and no lane is
 * added up. A layer of few units (ROWS_MOST) would leave most lanes empty; its rows are one after the other instead.
 *
 * Weights are whole or, in float32, reduced: to bfloat16, or to int8 times a scale for each unit. A word (of the size of
 * a whole weight) holds 2 or 4 reduced ones, so that a vector of words holds as many vectors of weights: of inputs that
 * follow each other or, where a layer is packed by rows, of pieces of the row that do. They are widened by what every
 * instruction set has, without a shuffle. What is missing from the last word is 0.
 */
#define PANEL_VECTORS 8
#define PART_UNITS (PANEL_VECTORS * LANES)
#define ROWS_MOST (LANES / 4)

NNK_INLINE int NAME(in_a_word)(int weights) { return weights == NNK_bfloat16 ? 2 : weights == NNK_int8 ? 4 : 1; }

NNK_INLINE ptrdiff_t NAME(rounded_up)(ptrdiff_t count, ptrdiff_t unit) { return (count + unit - 1) / unit * unit; }

NNK_INLINE int NAME(by_rows)(const nnk_packed *p) { return p->n <= ROWS_MOST; }

/* Words of one unit: in a panel, or in a row, whose vectors are whole */
NNK_INLINE ptrdiff_t NAME(unit_words)(const nnk_packed *p)
{
    const ptrdiff_t in_a_word = NAME(in_a_word)(p->weights), lanes = NAME(by_rows)(p) ? LANES : 1;
    return NAME(rounded_up)(p->n_prev, in_a_word * lanes) / in_a_word;
}

/* Where a part, a panel or all rows, begins */
NNK_INLINE const real *NAME(part_at)(const nnk_packed *p, ptrdiff_t part)
{
    return (const real *)p->W + part * PART_UNITS * NAME(unit_words)(p);
}

/* Units of a panel with those that fill its last vector */
NNK_INLINE ptrdiff_t NAME(part_width)(const nnk_packed *p, ptrdiff_t part)
{
    const ptrdiff_t rest = NAME(rounded_up)(p->n - part * PART_UNITS, LANES);
    return rest < PART_UNITS ? rest : PART_UNITS;
}

/* for assertions */
NNK_INLINE int NAME(is_packed)(const nnk_packed *p)
{
    return p->n > 0 && p->n_prev > 0 && p->W && 0 <= p->weights && p->weights < (REAL_BITS == 32 ? NNK_WEIGHTS : 1) &&
           (p->scale || p->weights != NNK_int8);
}
