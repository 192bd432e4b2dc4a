/* The micro-kernel for AMX: 32 rows and 32 columns of C in four tiles of 16 by 16. A tile of the panel of A holds 16 entries
 * of 16 rows, one of the block of B 16 entries of 16 columns, both as they were packed. Tiles are the state of a thread:
 * whoever multiplies configures them, and releases them at the end.
 */
enum { TILE = 16 };

/* A constant, all of which is in memory: compilers believe that the instruction reads no more than a pointer's size of what
 * it is given, and leave out stores to the rest of a variable. */
static const struct {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tiles = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE},
};

static void configure_tiles(void) { _tile_loadconfig(&tiles); }

/* tile `to` += the products of tiles b and a, which hold pairs of bfloat16 or, in `bytes`, four int8 and four unsigned ones */
#define MULTIPLY_TILE(bytes, to, b, a)                                                                                 \
    do {                                                                                                               \
        if (bytes)                                                                                                     \
            _tile_dpbsud(to, b, a);                                                                                    \
        else                                                                                                           \
            _tile_dpbf16ps(to, b, a);                                                                                  \
    } while (0)

/* Tiles 0 and 1 have the first and the next 16 rows of the first 16 columns, 2 and 3 those of the next 16. `wide`, `high`:
 * whether there are more than 16 columns, and rows (constants). */
NNK_INLINE void multiply_tiles(const int bytes, const int wide, const int high, const micro_operands *o)
{
    real last[TILE * MR] __attribute__((aligned(64)));
    size_t a_stride = (size_t)o->lda * sizeof(real), b_stride = (size_t)o->cs_b * sizeof(real);
    const real *A = o->A, *B = o->B;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (ptrdiff_t k = 0; k < o->k; k += TILE) {
        if (o->k - k < TILE) {
            /* B ends in zeros; what follows the last entries of A may be anything */
            for (ptrdiff_t q = 0; q < TILE; q++)
                for (int v = 0; v <= high; v++)
                    v_store(last + q * MR + v * LANES, q < o->k - k ? v_load(A + q * o->lda + v * LANES) : v_all(0));
            A = last;
            a_stride = MR * sizeof(real);
        }
        _tile_loadd(4, A, a_stride);
        _tile_loadd(6, B, b_stride);
        if (high)
            _tile_loadd(5, A + TILE, a_stride);
        if (wide)
            _tile_loadd(7, B + TILE * o->cs_b, b_stride);
        MULTIPLY_TILE(bytes, 0, 6, 4);
        if (high)
            MULTIPLY_TILE(bytes, 1, 6, 5);
        if (wide)
            MULTIPLY_TILE(bytes, 2, 7, 4);
        if (wide && high)
            MULTIPLY_TILE(bytes, 3, 7, 5);
        A += TILE * o->lda;
        B += TILE;
    }
}

/* C := alpha sums + beta C for the first `rows` and `columns` of a micro-tile */
NNK_INLINE void store_sums(const micro_operands *o, const real *sums, ptrdiff_t rows, ptrdiff_t columns)
{
    for (ptrdiff_t j = 0; j < columns; j++)
        for (ptrdiff_t i = 0; i < rows; i += LANES) {
            real *c = o->C + i + j * o->ldc;
            vec sum = v_rounded(o->alpha * v_load(sums + j * MR + i));
            if (o->beta != 0)
                sum += o->beta * v_first(c, rows - i);
            v_put(c, sum, rows - i);
        }
}

/* Rows of one panel of A and all nc columns of a block of B. Of bytes the sums are whole numbers, and C, which has room for
 * whole micro-tiles, takes them as they are. */
NNK_INLINE void multiply_panel(const int bytes, const micro_operands *block, ptrdiff_t rows, ptrdiff_t nc)
{
    real own_sums[2 * TILE * MR] __attribute__((aligned(64)));
    const size_t stride = MR * sizeof(real);
    micro_operands o = *block;
    for (ptrdiff_t j = 0; j < nc; j += 2 * TILE) {
        real *sums = bytes ? o.C : own_sums;
        const ptrdiff_t columns = nc - j < 2 * TILE ? nc - j : 2 * TILE;
        const int wide = columns > TILE, high = rows > TILE;
        if (wide && high)
            multiply_tiles(bytes, 1, 1, &o);
        else if (wide)
            multiply_tiles(bytes, 1, 0, &o);
        else if (high)
            multiply_tiles(bytes, 0, 1, &o);
        else
            multiply_tiles(bytes, 0, 0, &o);
        _tile_stored(0, sums, stride);
        if (high)
            _tile_stored(1, sums + TILE, stride);
        if (wide)
            _tile_stored(2, sums + TILE * MR, stride);
        if (wide && high)
            _tile_stored(3, sums + TILE * MR + TILE, stride);
        if (!bytes)
            store_sums(&o, sums, rows, columns);
        o.C += 2 * TILE * o.ldc;
        o.B += 2 * TILE * o.cs_b;
    }
}
