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
/* a tile of dot products: its columns and rows (at most 4), each sum a vector */
#if NNK_VECTOR_BYTES == 64
#define DOT_COLUMNS 6
#define DOT_UNITS 4
#else
#define DOT_COLUMNS 4
#define DOT_UNITS 3
#endif
#define TILE_VECTORS 2
#define TILE_ROWS (TILE_VECTORS * LANES)
/* terms of a sum that are taken in one go: of a panel that is read where it lies (in the second-level cache), and of one
 * that is turned round (32 KB on the stack with the widest vectors) */
#define PANEL_DEPTH 1024
#define TURNED_DEPTH 256
/* shortest sum for which a tile asks for L before its turn, and how many rows before */
#define AHEAD_DEPTH 512
#define AHEAD_ROWS 16
/* shortest sum for which turning a tile round at its end costs less than lanes left empty */
#define FEW_ROWS_DEPTH 48
/* Where R is packed: fewest rows n that make up for it; a packed block has TURNED_DEPTH rows, and its columns or its rows
 * don't share sets of the cache. */
#define PACKING_ROWS 64
#define DEPTH_PACKED (TURNED_DEPTH + LANES)
#define COLUMNS_PACKED ((ptrdiff_t)(1536 / sizeof(real)) + LANES)
#define PACKED_BYTES (TURNED_DEPTH * COLUMNS_PACKED * sizeof(real))
/* What stays of R in the second-level cache while the panels of L pass; what stays of C in the first until a caller has
 * finished it, and the fewest tiles of a block of columns; the same where L is turned round or packed for each block */
#define STREAMED_BYTES (1 << 18)
#define FINISHED_BYTES (1 << 14)
#define LEAST_TILES 3
#define PREPARED_BYTES (1 << 19)
#define LEAST_PREPARED 1024
/* Fewest columns m for which panels of L are packed, whose rows lie on a page of memory each */
#define PACKING_COLUMNS 64
/* Where sums run within vectors: shortest sum, most rows, and the terms taken in one go (74 KB on the stack, in columns
 * that don't share the sets of the cache) */
#define DOTS_LEAST_DEPTH 512
#define DOTS_ROWS 24
#define DOTS_DEPTH ((int)(3072 / sizeof(real)))
#define DOTS_STRIDE (DOTS_DEPTH + LANES)
/* the same for an L that lies turned: shortest sum, also for each column, for which taking the sums of vectors costs less
 * than turning panels round */
#define DOTS_TURNED_DEPTH 128
#define DOTS_TURNED_RATIO 8

#define dot_tile_body NAME(dot_tile_body)
#define tile_function NAME(tile_function)
#define turn_panel NAME(turn_panel)

#define tile_body NAME(tile_body)
#define tile_prefetch NAME(tile_prefetch)
#define tile_vec vec
#define TILE_LANES LANES
#define tile_first(from, k) v_load_first(from, k, 0)
#define tile_put_first(to, v, k) v_store_first(to, v, k)
#include "kernels/tile.h"

/* `count` such tiles side by side */
typedef void (*tile_function)(real *, ptrdiff_t, real, real, const real *, ptrdiff_t, const real *, ptrdiff_t, ptrdiff_t,
                              ptrdiff_t, ptrdiff_t, ptrdiff_t);

#define TILE(columns, width, vectors, partial)                                                                         \
    static void NAME(width##_##columns##_##vectors##_##partial)(                                                       \
        real * C, ptrdiff_t ldc, real alpha, real beta, const real *L, ptrdiff_t ldl, const real *R, ptrdiff_t r_row,  \
        ptrdiff_t r_column, ptrdiff_t depth, ptrdiff_t last, ptrdiff_t count)                                          \
    {                                                                                                                  \
        for (; count > 0; count--, C += columns * ldc, R += columns * r_column)                                        \
            NAME(width##_body)                                                                                         \
            (columns, vectors, partial, C, ldc, alpha, beta, L, ldl, R, r_row, r_column, depth, last);                 \
    }
#define TILE_NAME(columns, width, vectors, partial) NAME(width##_##columns##_##vectors##_##partial),
#if TILE_COLUMNS == 14
#define FOR_COLUMNS(what, ...)                                                                                         \
    what(1, __VA_ARGS__) what(2, __VA_ARGS__) what(3, __VA_ARGS__) what(4, __VA_ARGS__) what(5, __VA_ARGS__)           \
        what(6, __VA_ARGS__) what(7, __VA_ARGS__) what(8, __VA_ARGS__) what(9, __VA_ARGS__) what(10, __VA_ARGS__)      \
            what(11, __VA_ARGS__) what(12, __VA_ARGS__) what(13, __VA_ARGS__) what(14, __VA_ARGS__)
#else
#define FOR_COLUMNS(what, ...)                                                                                         \
    what(1, __VA_ARGS__) what(2, __VA_ARGS__) what(3, __VA_ARGS__) what(4, __VA_ARGS__) what(5, __VA_ARGS__)           \
        what(6, __VA_ARGS__)
#endif
FOR_COLUMNS(TILE, tile, 1, 0)
FOR_COLUMNS(TILE, tile, 1, 1)
FOR_COLUMNS(TILE, tile, 2, 0)
FOR_COLUMNS(TILE, tile, 2, 1)

/* by vectors - 1, partial, columns - 1 */
static const tile_function NAME(tiles)[TILE_VECTORS][2][TILE_COLUMNS] = {
    {{FOR_COLUMNS(TILE_NAME, tile, 1, 0)}, {FOR_COLUMNS(TILE_NAME, tile, 1, 1)}},
    {{FOR_COLUMNS(TILE_NAME, tile, 2, 0)}, {FOR_COLUMNS(TILE_NAME, tile, 2, 1)}},
};

/* Processors that take 64 bytes in two halves need half the time for half a vector; on others it does no harm. */
#if NNK_VECTOR_BYTES == 64
#define HALF_LANES (LANES / 2)
typedef real NAME(half) __attribute__((vector_size(NNK_VECTOR_BYTES / 2)));
NNK_INLINE NAME(half) NAME(half_first)(const real *p, ptrdiff_t k)
{
#if REAL_BITS == 32
    return (NAME(half))_mm256_maskz_loadu_ps((__mmask8)((1u << k) - 1), p);
#else
    return (NAME(half))_mm256_maskz_loadu_pd((__mmask8)((1u << k) - 1), p);
#endif
}
NNK_INLINE void NAME(half_put_first)(real *p, NAME(half) v, ptrdiff_t k)
{
#if REAL_BITS == 32
    _mm256_mask_storeu_ps(p, (__mmask8)((1u << k) - 1), (__m256)v);
#else
    _mm256_mask_storeu_pd(p, (__mmask8)((1u << k) - 1), (__m256d)v);
#endif
}
#define tile_body NAME(half_tile_body)
#define tile_prefetch NAME(half_tile_prefetch)
#define tile_vec NAME(half)
#define TILE_LANES HALF_LANES
#define tile_first NAME(half_first)
#define tile_put_first NAME(half_put_first)
#include "kernels/tile.h"
FOR_COLUMNS(TILE, half_tile, 1, 1)
static const tile_function NAME(half_tiles)[TILE_COLUMNS] = {FOR_COLUMNS(TILE_NAME, half_tile, 1, 1)};
#define NARROWEST HALF_LANES
#else
#define HALF_LANES 0
#define NARROWEST LANES
#endif
#undef TILE
#undef TILE_NAME
#undef FOR_COLUMNS

/* How many of the rows that are left make the next tile: half a vector stands by itself */
NNK_INLINE ptrdiff_t NAME(rows_of_tile)(ptrdiff_t left)
{
    if (left > LANES && left <= LANES + HALF_LANES)
        return LANES;
    return left < TILE_ROWS ? left : TILE_ROWS;
}

/* The tiles of so many rows, by columns - 1, and how many of their last vector's lanes there are */
NNK_INLINE const tile_function *NAME(tiles_of)(ptrdiff_t rows, ptrdiff_t *last)
{
    const int vectors = rows > LANES ? 2 : 1;
    *last = rows - (vectors - 1) * LANES;
#if HALF_LANES
    if (rows <= HALF_LANES)
        return NAME(half_tiles);
#endif
    return NAME(tiles)[vectors - 1][*last < LANES];
}

/* panel (TILE_ROWS, depth) := the transpose of W's rows 0 … depth-1 and columns 0 … rows-1, with zeros below up to whole
 * vectors */
static void turn_panel(real *panel, const real *W, ptrdiff_t ldw, ptrdiff_t rows, ptrdiff_t depth)
{
    const vec zeros = v_all(0);
    for (ptrdiff_t k = 0; k < depth; k += LANES)
        for (int v = 0; v * LANES < rows; v++) {
            const ptrdiff_t whole = depth - k < LANES ? depth - k : LANES;
            vec square[LANES];
            for (int i = 0; i < LANES; i++) {
                const real *from = W + (v * LANES + i) * ldw + k;
                __builtin_prefetch(from + TILE_ROWS * ldw, 0, 2);
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

/* share of the lanes that x entries fill, of the narrowest vectors that hold them */
NNK_INLINE double NAME(filled)(ptrdiff_t x)
{
    return (double)x / (double)((x + NARROWEST - 1) / NARROWEST * NARROWEST);
}

/* C(i, p) := alpha T(p, i) + beta C(i, p) for a tile T of `rows` rows p, TILE_ROWS apart from column to column */
static void NAME(store_turned)(real *C, ptrdiff_t ldc, const real *T, real alpha, real beta, ptrdiff_t rows,
                               ptrdiff_t columns)
{
    for (ptrdiff_t p = 0; p < rows; p += LANES) {
        vec square[LANES];
        for (int i = 0; i < LANES; i++)
            square[i] = i < columns ? v_load(T + i * TILE_ROWS + p) : v_all(0);
        turn_square(square);
        for (int i = 0; i < LANES && p + i < rows; i++) {
            real *c = C + (p + i) * ldc;
            const vec old = beta != 0 ? beta * v_first(c, columns) : v_all(0);
            v_put(c, v_rounded(alpha * square[i]) + old, columns);
        }
    }
}

/* Whether neighbours so many entries apart share a set of the first cache */
NNK_INLINE int NAME(collide)(ptrdiff_t stride) { return (size_t)stride * sizeof(real) % 4096 == 0; }

/* packed (depth, columns) := a block of R, in columns DEPTH_PACKED apart or, where its rows are contiguous, in rows
 * COLUMNS_PACKED apart */
static void NAME(pack)(real *packed, const real *R, ptrdiff_t r_row, ptrdiff_t r_column, ptrdiff_t depth,
                       ptrdiff_t columns)
{
    if (r_column == 1)
        for (ptrdiff_t k = 0; k < depth; k++)
            memcpy(packed + k * COLUMNS_PACKED, R + k * r_row, (size_t)columns * sizeof(real));
    else if (r_row == 1)
        for (ptrdiff_t j = 0; j < columns; j++)
            memcpy(packed + j * DEPTH_PACKED, R + j * r_column, (size_t)depth * sizeof(real));
    else
        for (ptrdiff_t j = 0; j < columns; j++)
            for (ptrdiff_t k = 0; k < depth; k++)
                packed[j * DEPTH_PACKED + k] = R[k * r_row + j * r_column];
}

/* The same as gemm, for few rows n that fill their vectors badly, where the columns of R stand side by side: the transpose
 * is computed, whose vectors run along these columns, and turned round tile by tile. */
static void NAME(gemm_of_few_rows)(const nnk_product *p, ptrdiff_t first, ptrdiff_t end, void *scratch)
{
    real tile[LANES * TILE_ROWS] __attribute__((aligned(64)));
    const ptrdiff_t n = p->n, most = LANES < TILE_COLUMNS ? LANES : TILE_COLUMNS, tiles = (n + most - 1) / most;
    const int pack_R = tiles > 1 && NAME(collide)(p->rs_b);
    const ptrdiff_t cut = pack_R ? TURNED_DEPTH : PANEL_DEPTH, width = pack_R ? COLUMNS_PACKED - LANES : end - first;
    for (ptrdiff_t at = first; at < end; at += width)
        for (ptrdiff_t k = 0; k < p->k; k += cut) {
            const ptrdiff_t c = p->k - k < cut ? p->k - k : cut, m = end - at < width ? end - at : width;
            const real beta = k == 0 ? R(p->beta) : R(1), *r = (const real *)p->B + k * p->rs_b + at;
            ptrdiff_t r_row = p->rs_b;
            if (pack_R) {
                NAME(pack)(scratch, r, r_row, 1, c, m);
                r = scratch;
                r_row = COLUMNS_PACKED;
            }
            for (ptrdiff_t j = 0, rows; j < m; j += rows) {
                ptrdiff_t last;
                rows = NAME(rows_of_tile)(m - j);
                const tile_function *of_columns = NAME(tiles_of)(rows, &last);
                for (ptrdiff_t t = 0; t < tiles; t++) {
                    const ptrdiff_t i = t * n / tiles, columns = (t + 1) * n / tiles - i;
                    of_columns[columns - 1](tile, TILE_ROWS, 1, 0, r + j, r_row, (const real *)p->A + i + k * p->lda,
                                            p->lda, 1, c, last, 1);
                    NAME(store_turned)((real *)p->C + i + (at + j) * p->ldc, p->ldc, tile, R(p->alpha), beta, rows,
                                       columns);
                }
            }
        }
}

/* C(i, j) := alpha Σ_k T(k, i) R(k, j) + beta C(i, j) for `units` columns i of T, ldt apart, and `columns` of R
 * (constants): vectors run along k. The columns of R at `ahead` will be wanted next. */
NNK_INLINE void dot_tile_body(const int units, const int columns, real *C, ptrdiff_t ldc, real alpha, real beta,
                              const real *T, ptrdiff_t ldt, const real *R, ptrdiff_t ldr, const real *ahead,
                              ptrdiff_t depth)
{
    vec sums[DOT_COLUMNS][DOT_UNITS];
    ptrdiff_t k = 0;
#pragma GCC unroll 6
    for (int j = 0; j < columns; j++)
#pragma GCC unroll 4
        for (int i = 0; i < units; i++)
            sums[j][i] = v_all(0);
    for (; k + LANES <= depth; k += LANES) {
        vec t[DOT_UNITS];
#pragma GCC unroll 4
        for (int i = 0; i < units; i++)
            t[i] = v_load(T + i * ldt + k);
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++) {
            const vec r = v_load(R + j * ldr + k);
            if (ahead)
                __builtin_prefetch(ahead + j * ldr + k, 0, 2);
#pragma GCC unroll 4
            for (int i = 0; i < units; i++)
                sums[j][i] = v_fma(t[i], r, sums[j][i]);
        }
    }
    if (k < depth) {
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++) {
            const vec r = v_load_first(R + j * ldr + k, depth - k, 0);
#pragma GCC unroll 4
            for (int i = 0; i < units; i++)
                sums[j][i] = v_fma(v_load_first(T + i * ldt + k, depth - k, 0), r, sums[j][i]);
        }
    }
    enum { most = (DOT_COLUMNS * DOT_UNITS + LANES - 1) / LANES * LANES };
    real totals[most] __attribute__((aligned(64)));
#pragma GCC unroll 8
    for (int first = 0; first < units * columns; first += LANES) {
        vec some[LANES];
#pragma GCC unroll 16
        for (int s = 0; s < LANES; s++)
            some[s] = first + s < units * columns ? sums[(first + s) / units][(first + s) % units] : v_all(0);
        v_store(totals + first, v_rounded(alpha * v_sums(some)));
    }
#pragma GCC unroll 6
    for (int j = 0; j < columns; j++)
#pragma GCC unroll 4
        for (int i = 0; i < units; i++) {
            real *c = C + j * ldc + i;
            real old = beta != 0 ? beta * *c : 0;
            NNK_ROUNDED(old);
            *c = totals[j * units + i] + old;
        }
}

typedef void (*NAME(dot_tile))(real *, ptrdiff_t, real, real, const real *, ptrdiff_t, const real *, ptrdiff_t,
                               const real *, ptrdiff_t);

#define DOT_TILE(columns, units)                                                                                       \
    static void NAME(dot_tile_##columns##_##units)(real * C, ptrdiff_t ldc, real alpha, real beta, const real *T,      \
                                                   ptrdiff_t ldt, const real *R, ptrdiff_t ldr, const real *ahead,     \
                                                   ptrdiff_t depth)                                                    \
    {                                                                                                                  \
        dot_tile_body(units, columns, C, ldc, alpha, beta, T, ldt, R, ldr, ahead, depth);                              \
    }
#define DOT_TILE_NAME(columns, units) NAME(dot_tile_##columns##_##units),
#if DOT_COLUMNS == 6
#define FOR_DOT_COLUMNS(what, units) \
    what(1, units) what(2, units) what(3, units) what(4, units) what(5, units) what(6, units)
#else
#define FOR_DOT_COLUMNS(what, units) what(1, units) what(2, units) what(3, units) what(4, units)
#endif
FOR_DOT_COLUMNS(DOT_TILE, 1)
FOR_DOT_COLUMNS(DOT_TILE, 2)
FOR_DOT_COLUMNS(DOT_TILE, 3)
#if DOT_UNITS == 4
FOR_DOT_COLUMNS(DOT_TILE, 4)
#endif

/* by units - 1, columns - 1 */
static const NAME(dot_tile) NAME(dot_tiles)[DOT_UNITS][DOT_COLUMNS] = {
    {FOR_DOT_COLUMNS(DOT_TILE_NAME, 1)},
    {FOR_DOT_COLUMNS(DOT_TILE_NAME, 2)},
    {FOR_DOT_COLUMNS(DOT_TILE_NAME, 3)},
#if DOT_UNITS == 4
    {FOR_DOT_COLUMNS(DOT_TILE_NAME, 4)},
#endif
};
#undef DOT_TILE
#undef DOT_TILE_NAME
#undef FOR_DOT_COLUMNS

/* The same as gemm where every product can be one of two contiguous columns: for few rows n and a long sum, when L is turned
 * round first, so that no lane is empty and a long column of R is read in one piece; and for few columns m of an L that
 * lies turned, which isn't turned back. */
static void NAME(gemm_by_dots)(const nnk_product *p, ptrdiff_t row, ptrdiff_t row_end, ptrdiff_t first, ptrdiff_t end)
{
    real turned[DOTS_ROWS * DOTS_STRIDE] __attribute__((aligned(64)));
    const ptrdiff_t n = row_end - row, m = end - first, ldr = p->cs_b, ldt = p->transpose_a ? p->lda : DOTS_STRIDE;
    const ptrdiff_t groups = (n + DOT_UNITS - 1) / DOT_UNITS, tiles = (m + DOT_COLUMNS - 1) / DOT_COLUMNS;
    const ptrdiff_t outer = p->transpose_a ? groups : tiles, inner = p->transpose_a ? tiles : groups;
    for (ptrdiff_t k = 0; k < p->k; k += DOTS_DEPTH) {
        const ptrdiff_t c = p->k - k < DOTS_DEPTH ? p->k - k : DOTS_DEPTH;
        const real *T = p->transpose_a ? (const real *)p->A + row * ldt + k : turned;
        for (ptrdiff_t q = 0; !p->transpose_a && q < c; q++)
            for (ptrdiff_t i = 0; i < n; i++)
                turned[i * DOTS_STRIDE + q] = ((const real *)p->A)[row + i + (k + q) * p->lda];
        for (ptrdiff_t a = 0; a < outer; a++)
            for (ptrdiff_t b = 0; b < inner; b++) {
                const ptrdiff_t tile = p->transpose_a ? b : a, group = p->transpose_a ? a : b;
                const ptrdiff_t j = tile * m / tiles, columns = (tile + 1) * m / tiles - j;
                const ptrdiff_t i = group * n / groups, units = (group + 1) * n / groups - i;
                const real *r = (const real *)p->B + k + (first + j) * ldr;
                const real *ahead = !p->transpose_a && group == 0 && tile + 1 < tiles ? r + columns * ldr : NULL;
                NAME(dot_tiles)[units - 1][columns - 1]((real *)p->C + row + i + (first + j) * p->ldc, p->ldc,
                                                        R(p->alpha), k == 0 ? R(p->beta) : R(1), T + i * ldt, ldt, r, ldr,
                                                        ahead, c);
            }
    }
}

/* How a product is computed */
NNK_INLINE int NAME(by_few_rows)(const nnk_product *p)
{
    return !p->transpose_a && p->cs_b == 1 && p->k >= FEW_ROWS_DEPTH && p->n <= NNK_FEW_ROWS &&
           NAME(filled)(p->n) < 0.93 * NAME(filled)(p->m);
}
/* Columns of R that share a set of the cache are best read along their length. */
NNK_INLINE int NAME(by_dots)(const nnk_product *p)
{
    if (p->transpose_a)
        return p->rs_b == 1 && p->k >= DOTS_TURNED_DEPTH && p->k >= DOTS_TURNED_RATIO * p->m;
    return p->rs_b == 1 && p->k >= DOTS_LEAST_DEPTH && p->n <= DOTS_ROWS &&
           (NAME(filled)(p->n) <= 0.5 || NAME(collide)(p->cs_b));
}
NNK_INLINE int NAME(packs_R)(const nnk_product *p)
{
    return p->n >= PACKING_ROWS && ((p->rs_b != 1 && p->cs_b != 1) ||
                                    NAME(collide)(p->rs_b == 1 ? p->cs_b : p->rs_b));
}
NNK_INLINE int NAME(packs_L)(const nnk_product *p)
{
    return !p->transpose_a && p->m >= PACKING_COLUMNS && (size_t)p->lda * sizeof(real) >= 4096;
}

/* whether what is made of L is made anew for each block of columns */
NNK_INLINE int NAME(prepares_L)(const nnk_product *p)
{
    return p->transpose_a || NAME(packs_L)(p) || NAME(by_dots)(p) || NAME(by_few_rows)(p);
}

/* Columns whose part of R stays in the second-level cache while the panels of L pass: all, or whole tiles */
NNK_INLINE ptrdiff_t NAME(streamed)(const nnk_product *p)
{
    const ptrdiff_t depth = p->k < PANEL_DEPTH ? p->k : PANEL_DEPTH;
    if (depth * p->m * (ptrdiff_t)sizeof(real) <= STREAMED_BYTES)
        return p->m;
    const ptrdiff_t tiles = STREAMED_BYTES / (depth * (ptrdiff_t)sizeof(real)) / TILE_COLUMNS;
    return (tiles > LEAST_TILES ? tiles : LEAST_TILES) * TILE_COLUMNS;
}

/* Columns of C that, `rows` of each, had best be finished while they are in a cache, before the next are computed */
static ptrdiff_t NAME(gemm_block)(const nnk_product *p, ptrdiff_t rows)
{
    if (rows * p->m * (ptrdiff_t)sizeof(real) <= FINISHED_BYTES)
        return p->m;
    const int wide = NAME(prepares_L)(p);
    const ptrdiff_t step = wide ? TILE_ROWS : TILE_COLUMNS, least = wide ? LEAST_PREPARED : LEAST_TILES * TILE_COLUMNS;
    const ptrdiff_t most = wide ? p->m : NAME(streamed)(p);
    ptrdiff_t columns = (wide ? PREPARED_BYTES : FINISHED_BYTES) / (rows * (ptrdiff_t)sizeof(real)) / step * step;
    columns = columns < most ? columns : most;
    return columns > least ? columns : least;
}

/* Rows `row` … row_end-1 and columns first … end-1 of C := alpha op(L) R + beta C (nnk.h). The order of summation depends
 * on the whole product only, so that C may be computed in any parts; where the rows are few, in columns only. */
static void NAME(gemm)(const nnk_product *p, ptrdiff_t row, ptrdiff_t row_end, ptrdiff_t first, ptrdiff_t end,
                       void *scratch)
{
    const ptrdiff_t depth = p->k, ldl = p->lda;
    if (NAME(by_few_rows)(p)) {
        NAME(gemm_of_few_rows)(p, first, end, scratch);
        return;
    }
    if (NAME(by_dots)(p)) {
        NAME(gemm_by_dots)(p, row, row_end, first, end);
        return;
    }
    real panel[TURNED_DEPTH * TILE_ROWS] __attribute__((aligned(64)));
    const int pack_R = NAME(packs_R)(p), pack_L = NAME(packs_L)(p);
    const ptrdiff_t cut = p->transpose_a || pack_R || pack_L ? TURNED_DEPTH : PANEL_DEPTH;
    const ptrdiff_t unpacked = NAME(prepares_L)(p) ? end - first : NAME(streamed)(p);
    const ptrdiff_t width = pack_R ? COLUMNS_PACKED - LANES : unpacked;
    for (ptrdiff_t at = first; at < end; at += width) {
        const ptrdiff_t m = end - at < width ? end - at : width, tiles = (m + TILE_COLUMNS - 1) / TILE_COLUMNS;
        const ptrdiff_t fewest = m / tiles, over = m - fewest * tiles;
        for (ptrdiff_t k = 0; k < depth; k += cut) {
            const ptrdiff_t c = depth - k < cut ? depth - k : cut;
            const real *r = (const real *)p->B + k * p->rs_b + at * p->cs_b;
            ptrdiff_t r_row = p->rs_b, r_column = p->cs_b;
            if (pack_R) {
                NAME(pack)(scratch, r, r_row, r_column, c, m);
                r = scratch;
                r_row = r_column == 1 ? COLUMNS_PACKED : 1;
                r_column = r_column == 1 ? 1 : DEPTH_PACKED;
            }
            for (ptrdiff_t i = row, rows; i < row_end; i += rows) {
                ptrdiff_t last;
                rows = NAME(rows_of_tile)(row_end - i);
                const tile_function *of_columns = NAME(tiles_of)(rows, &last);
                const real *l = (const real *)p->A + (p->transpose_a ? i * ldl + k : i + k * ldl);
                if (p->transpose_a)
                    turn_panel(panel, l, ldl, rows, c);
                else if (pack_L)
                    for (ptrdiff_t q = 0; q < c; q++)
                        for (int v = 0; v * LANES < rows; v++) {
                            __builtin_prefetch(l + q * ldl + TILE_ROWS + v * LANES, 0, 2);
                            v_put(panel + q * TILE_ROWS + v * LANES, v_first(l + q * ldl + v * LANES, rows - v * LANES),
                                  rows - v * LANES);
                        }
                const int packed = p->transpose_a || pack_L;
                /* `over` tiles have a column more than the others */
                for (ptrdiff_t columns = fewest + 1, j = 0, count = over; columns >= fewest; columns--) {
                    if (count)
                        of_columns[columns - 1]((real *)p->C + i + (at + j) * p->ldc, p->ldc, R(p->alpha),
                                                k == 0 ? R(p->beta) : R(1), packed ? panel : l, packed ? TILE_ROWS : ldl,
                                                r + j * r_column, r_row, r_column, c, last, count);
                    j += count * columns;
                    count = tiles - over;
                }
            }
        }
    }
}
