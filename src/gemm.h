/* The matrix product C (n, m) := alpha L R + beta C in tiles of registers.
 *
 * A tile has up to TILE_VECTORS vectors of rows and up to TILE_COLUMNS columns. Rows are contiguous in C and in L: L(:, k)
 * is read as vectors, R(k, j) as scalars at any strides, broadcast. So nothing needs packing in
 *
 *   forward            Z  = W A_prev          L = W,  R = A_prev
 *   weight gradient    dW = dZ A_prevᵀ        L = dZ, R = A_prevᵀ (its strides swapped)
 *
 * and in the input gradient, dA_prev = Wᵀ dZ, panels of Wᵀ are turned round on the way into a buffer on the stack.
 *
 * Rows that don't fill a vector are loaded and stored in part. Columns are dealt out evenly among the tiles. A sum longer
 * than a panel is deep is cut, and its parts are added up in C. The order of summation depends on shapes only.
 */
#if NNK_VECTOR_BYTES == 64
#define TILE_COLUMNS 14
#else
#define TILE_COLUMNS 6
#endif
#define TILE_VECTORS 2
#define TILE_ROWS (TILE_VECTORS * LANES)
/* terms of a sum that are taken in one go: of a panel that is read where it lies (in the second-level cache), and of one
 * that is turned round (32 KB on the stack with the widest vectors) */
#define PANEL_DEPTH 1024
#define TURNED_DEPTH 256

#define tile_body NAME(tile_body)
#define tile_function NAME(tile_function)
#define turn_panel NAME(turn_panel)
#define turn_square NAME(turn_square)

/* C := alpha L R + beta C for `columns` columns and `vectors` vectors of rows, of which the last has `last` lanes where
 * `partial` (all constants but `last`) */
NNK_INLINE void tile_body(const int columns, const int vectors, const int partial, real *C, ptrdiff_t ldc, real alpha,
                          real beta, const real *L, ptrdiff_t ldl, const real *R, ptrdiff_t r_row, ptrdiff_t r_column,
                          ptrdiff_t depth, ptrdiff_t last)
{
    vec sums[TILE_COLUMNS][TILE_VECTORS];
#pragma GCC unroll 14
    for (int j = 0; j < columns; j++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sums[j][v] = v_all(0);
    for (ptrdiff_t k = 0; k < depth; k++) {
        vec l[TILE_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            l[v] = partial && v == vectors - 1 ? v_load_first(L + v * LANES, last, 0) : v_load(L + v * LANES);
#pragma GCC unroll 14
        for (int j = 0; j < columns; j++) {
            const real r = R[j * r_column];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sums[j][v] += l[v] * r;
        }
        L += ldl;
        R += r_row;
    }
#pragma GCC unroll 14
    for (int j = 0; j < columns; j++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            real *c = C + j * ldc + v * LANES;
            vec sum = alpha * sums[j][v];
            if (partial && v == vectors - 1) {
                if (beta != 0)
                    sum += beta * v_load_first(c, last, 0);
                v_store_first(c, sum, last);
            }
            else {
                if (beta != 0)
                    sum += beta * v_load(c);
                v_store(c, sum);
            }
        }
}

typedef void (*tile_function)(real *, ptrdiff_t, real, real, const real *, ptrdiff_t, const real *, ptrdiff_t, ptrdiff_t,
                              ptrdiff_t, ptrdiff_t);

#define TILE(columns, vectors, partial)                                                                                \
    static void NAME(tile_##columns##_##vectors##_##partial)(                                                          \
        real * C, ptrdiff_t ldc, real alpha, real beta, const real *L, ptrdiff_t ldl, const real *R, ptrdiff_t r_row,  \
        ptrdiff_t r_column, ptrdiff_t depth, ptrdiff_t last)                                                           \
    {                                                                                                                  \
        tile_body(columns, vectors, partial, C, ldc, alpha, beta, L, ldl, R, r_row, r_column, depth, last);            \
    }
#if TILE_COLUMNS == 14
#define FOR_COLUMNS(what, vectors, partial)                                                                            \
    what(1, vectors, partial) what(2, vectors, partial) what(3, vectors, partial) what(4, vectors, partial)            \
        what(5, vectors, partial) what(6, vectors, partial) what(7, vectors, partial) what(8, vectors, partial)        \
            what(9, vectors, partial) what(10, vectors, partial) what(11, vectors, partial) what(12, vectors, partial) \
                what(13, vectors, partial) what(14, vectors, partial)
#else
#define FOR_COLUMNS(what, vectors, partial)                                                                            \
    what(1, vectors, partial) what(2, vectors, partial) what(3, vectors, partial) what(4, vectors, partial)            \
        what(5, vectors, partial) what(6, vectors, partial)
#endif
FOR_COLUMNS(TILE, 1, 0)
FOR_COLUMNS(TILE, 1, 1)
FOR_COLUMNS(TILE, 2, 0)
FOR_COLUMNS(TILE, 2, 1)

/* by vectors - 1, partial, columns - 1 */
#define TILE_NAME(columns, vectors, partial) NAME(tile_##columns##_##vectors##_##partial),
static const tile_function NAME(tiles)[TILE_VECTORS][2][TILE_COLUMNS] = {
    {{FOR_COLUMNS(TILE_NAME, 1, 0)}, {FOR_COLUMNS(TILE_NAME, 1, 1)}},
    {{FOR_COLUMNS(TILE_NAME, 2, 0)}, {FOR_COLUMNS(TILE_NAME, 2, 1)}},
};
#undef TILE
#undef TILE_NAME
#undef FOR_COLUMNS

/* Turns a square of LANES vectors round: in step s, entries whose row and column differ in bit s change places. */
NNK_INLINE void turn_square(vec rows[LANES])
{
#pragma GCC unroll 4
    for (int side = 1; side < LANES; side *= 2) {
        ivec low, high;
        for (int lane = 0; lane < LANES; lane++) {
            low[lane] = lane & side ? LANES + lane - side : lane;
            high[lane] = lane & side ? LANES + lane : lane + side;
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & side)) {
                const vec a = rows[i], b = rows[i + side];
                rows[i] = __builtin_shuffle(a, b, low);
                rows[i + side] = __builtin_shuffle(a, b, high);
            }
    }
}

/* panel (TILE_ROWS, depth) := the transpose of W's rows 0 … depth-1 and columns 0 … rows-1, with zeros below */
static void turn_panel(real *panel, const real *W, ptrdiff_t ldw, ptrdiff_t rows, ptrdiff_t depth)
{
    const vec zeros = v_all(0);
    for (ptrdiff_t k = 0; k < depth; k += LANES)
        for (int v = 0; v < TILE_VECTORS; v++) {
            const ptrdiff_t whole = depth - k < LANES ? depth - k : LANES;
            vec square[LANES];
            for (int i = 0; i < LANES; i++) {
                const real *from = W + (v * LANES + i) * ldw + k;
                if (v * LANES + i >= rows)
                    square[i] = zeros;
                else
                    square[i] = whole < LANES ? v_load_first(from, whole, 0) : v_load(from);
            }
            turn_square(square);
            for (int i = 0; i < whole; i++)
                v_store(panel + (k + i) * TILE_ROWS + v * LANES, square[i]);
        }
}

/* C (n, m) := alpha op(L) R + beta C; op(L) (n, depth) is L, or with `turned` its transpose */
static void NAME(gemm)(void *C_, ptrdiff_t ldc, double alpha, const void *L_, ptrdiff_t ldl, int turned, const void *R_,
                       ptrdiff_t r_row, ptrdiff_t r_column, double beta, ptrdiff_t n, ptrdiff_t m, ptrdiff_t depth)
{
    real *C = C_;
    const real *L = L_, *R = R_;
    real panel[TURNED_DEPTH * TILE_ROWS] __attribute__((aligned(64)));
    const ptrdiff_t cut = turned ? TURNED_DEPTH : PANEL_DEPTH;
    const ptrdiff_t tiles = (m + TILE_COLUMNS - 1) / TILE_COLUMNS;
    for (ptrdiff_t k = 0; k < depth; k += cut) {
        const ptrdiff_t c = depth - k < cut ? depth - k : cut;
        for (ptrdiff_t i = 0; i < n; i += TILE_ROWS) {
            const ptrdiff_t rows = n - i < TILE_ROWS ? n - i : TILE_ROWS;
            const int vectors = rows > LANES ? 2 : 1;
            const ptrdiff_t last = rows - (vectors - 1) * LANES;
            const tile_function *of_columns = NAME(tiles)[vectors - 1][last < LANES];
            const real *l = L + i + k * ldl;
            if (turned) {
                turn_panel(panel, L + i * ldl + k, ldl, rows, c);
                l = panel;
            }
            for (ptrdiff_t tile = 0; tile < tiles; tile++) {
                const ptrdiff_t j = tile * m / tiles, columns = (tile + 1) * m / tiles - j;
                of_columns[columns - 1](C + i + j * ldc, ldc, R(alpha), k == 0 ? R(beta) : R(1), l,
                                        turned ? TILE_ROWS : ldl, R + k * r_row + j * r_column, r_row, r_column, c, last);
            }
        }
    }
}
