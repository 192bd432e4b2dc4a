/* The micro-kernel for AMX: 32 rows and 32 columns of C in four tiles of 16 by 16. A tile of the panel of A holds 16 entries
 * of 16 rows, one of the block of B 16 entries of 16 columns, both as they were packed. Tiles are the state of a thread:
 * whoever multiplies configures them, and releases them at the end.
 */
enum { TILE = 16 };

typedef struct {
    real *C;
    const real *A, *B;
    ptrdiff_t ldc, lda, rs_b, cs_b;
    real alpha, beta;
    ptrdiff_t k;
} micro_operands;

NNK_INLINE void configure_tiles(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = TILE;
    }
    _tile_loadconfig(&config);
}

/* Tiles 0 and 1 have the first and the next 16 rows of the first 16 columns, 2 and 3 those of the next 16. `wide`, `high`:
 * whether there are more than 16 columns, and rows (constants). */
NNK_INLINE void multiply_tiles(const int wide, const int high, const micro_operands *o)
{
    const size_t a_stride = MR * sizeof(real), b_stride = (size_t)o->cs_b * sizeof(real);
    const real *A = o->A, *B = o->B;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (ptrdiff_t k = 0; k < o->k; k += TILE) {
        _tile_loadd(4, A, a_stride);
        _tile_loadd(6, B, b_stride);
        if (high)
            _tile_loadd(5, A + TILE, a_stride);
        if (wide)
            _tile_loadd(7, B + TILE * o->cs_b, b_stride);
        _tile_dpbf16ps(0, 6, 4);
        if (high)
            _tile_dpbf16ps(1, 6, 5);
        if (wide)
            _tile_dpbf16ps(2, 7, 4);
        if (wide && high)
            _tile_dpbf16ps(3, 7, 5);
        A += TILE * MR;
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

/* Rows of one panel of A and all nc columns of a block of B */
NNK_INLINE void multiply_panel(const micro_operands *block, ptrdiff_t rows, ptrdiff_t nc)
{
    real sums[2 * TILE * MR] __attribute__((aligned(64)));
    const size_t stride = MR * sizeof(real);
    micro_operands o = *block;
    for (ptrdiff_t j = 0; j < nc; j += 2 * TILE) {
        const ptrdiff_t columns = nc - j < 2 * TILE ? nc - j : 2 * TILE;
        const int wide = columns > TILE, high = rows > TILE;
        if (wide && high)
            multiply_tiles(1, 1, &o);
        else if (wide)
            multiply_tiles(1, 0, &o);
        else if (high)
            multiply_tiles(0, 1, &o);
        else
            multiply_tiles(0, 0, &o);
        _tile_stored(0, sums, stride);
        if (high)
            _tile_stored(1, sums + TILE, stride);
        if (wide)
            _tile_stored(2, sums + TILE * MR, stride);
        if (wide && high)
            _tile_stored(3, sums + TILE * MR + TILE, stride);
        store_sums(&o, sums, rows, columns);
        o.C += 2 * TILE * o.ldc;
        o.B += 2 * TILE * o.cs_b;
    }
}
