/* The checks of kernels_driver.c, for one precision: real, EPSILON (2 units roundoff), TABLE of nnk_tables. */

static real *NAME(take)(int region, long count) { return take(region, (size_t)count * sizeof(real)); }

static void NAME(check_beside)(const char *what, int region, long used, long apart)
{
    check_beside(what, region, (size_t)used * sizeof(real), (size_t)apart * sizeof(real));
}

/* ---- products: gemm in parts, of any strides ---- */

/* rows and columns of the largest product with the same sums */
#define MOST_ROWS 131
#define MOST_COLUMNS 417

/* columns so many entries long begin as many apart: with a gap, or at a multiple of a page of memory */
static long NAME(apart)(long length, int pages)
{
    const long page = 4096 / (long)sizeof(real);
    return pages ? (length + page) / page * page : length + 3;
}

/* every `step`th pair of these rows and columns, beginning with `turn`, of each orientation of L and R */
static void NAME(products_of_depth)(const nnk_table *t, long depth, const int *rows, int all_rows, const int *columns,
                                    int all_columns, int turn, int step)
{
    static double sums[MOST_ROWS * MOST_COLUMNS];
    static real l[1100 * MOST_ROWS], r[1100 * MOST_COLUMNS];
    long N = 0, M = 0;
    for (int i = 0; i < all_rows; i++)
        N = rows[i] > N ? rows[i] : N;
    for (int j = 0; j < all_columns; j++)
        M = columns[j] > M ? columns[j] : M;
    for (long k = 0; k < depth; k++) {
        for (long i = 0; i < N; i++)
            l[i + k * N] = (real)whole(i, k);
        for (long j = 0; j < M; j++)
            r[j + k * M] = (real)whole(k + 3, j + 2);
    }
    memset(sums, 0, sizeof sums);
    for (long k = 0; k < depth; k++)
        for (long j = 0; j < M; j++)
            for (long i = 0; i < N; i++)
                sums[i + j * N] += (double)l[i + k * N] * (double)r[j + k * M];

    /* L as it is or turned; R with contiguous columns, with contiguous rows, with neither; pages apart or not */
    for (int way = 0; way < 24; way++) {
        const int turned = way % 2, kind = way / 2 % 3, L_pages = way / 6 % 2, R_pages = way / 12;
        const long ldl = NAME(apart)(turned ? depth : N, L_pages);
        const long long_stride = NAME(apart)(kind == 1 ? M : kind == 0 ? depth : 2 * depth, R_pages);
        const long r_row = kind == 0 ? 1 : kind == 1 ? long_stride : 2, r_column = kind == 1 ? 1 : long_stride;
        real *L = NAME(take)(FIRST, turned ? (N - 1) * ldl + depth : (depth - 1) * ldl + N);
        real *R = NAME(take)(SECOND, (depth - 1) * r_row + (M - 1) * r_column + 1);
        for (long k = 0; k < depth; k++) {
            for (long i = 0; i < N; i++)
                L[turned ? k + i * ldl : i + k * ldl] = l[i + k * N];
            for (long j = 0; j < M; j++)
                R[k * r_row + j * r_column] = r[j + k * M];
        }
        for (int a = 0; a < all_rows; a++)
            for (int b = 0; b < all_columns; b++) {
                if ((a + b + way + turn) % step)
                    continue;
                /* the last n rows and m columns, which end where the arrays do */
                const long n = rows[a], m = columns[b], ldc = n + 3, skip = N - n, skip_columns = M - m;
                const int mix = a + 3 * b + 5 * way + turn;
                const double beta = mix % 3 - 1, alpha = mix / 3 % 2 ? 1 : -2;
                real *C = NAME(take)(THIRD, (m - 1) * ldc + n), *scratch = take(SCRATCH, NNK_SCRATCH_BYTES);
                for (long j = 0; beta != 0 && j < m; j++)
                    for (long i = 0; i < n; i++)
                        C[i + j * ldc] = (real)small(i, j);
                const nnk_product p = {C, L + skip * (turned ? ldl : 1), R + skip_columns * r_column, ldc, ldl, r_row,
                                       r_column, turned, alpha, beta, n, m, depth};
                const long row = mix % 4 > 1 && n > NNK_FEW_ROWS ? n / 3 : n, column = mix % 4 % 2 ? m * 2 / 5 : m;
                for (long i = 0; i < n; i += row ? row : n)
                    for (long j = 0; j < m; j += column ? column : m)
                        t->gemm(&p, i, row && i + row < n ? i + row : n, j, column && j + column < m ? j + column : m,
                                scratch);
                for (long j = 0; j < m; j++)
                    for (long i = 0; i < n; i++) {
                        const double before = beta != 0 ? beta * small(i, j) : 0;
                        compare("product", C[i + j * ldc], before + alpha * sums[skip + i + (skip_columns + j) * N], 0);
                    }
                NAME(check_beside)("beside a product", THIRD, n, ldc);
                NAME(check_beside)("before the scratch", SCRATCH, 1, 1);
                const ptrdiff_t block = t->gemm_block(&p, n);
                compare("gemm_block", block, block < 1 ? 1 : block > m && block > 1024 ? m : block, 0);
            }
        NAME(check_beside)("before L", FIRST, 1, 1);
        NAME(check_beside)("before R", SECOND, 1, 1);
    }
}

/* A product of numbers that round, whole and in parts: the same bits */
static void NAME(products_in_parts)(const nnk_table *t, long n, long depth, long m, int turned, int kind)
{
    const long ldl = turned ? depth : n, r_row = kind == 0 ? 1 : kind == 1 ? m : 2, r_column = kind == 1 ? 1 : 2 * depth;
    real *L = NAME(take)(FIRST, n * depth), *R = NAME(take)(SECOND, (depth - 1) * r_row + (m - 1) * r_column + 1);
    real *in_one = NAME(take)(THIRD, n * m), *in_parts = NAME(take)(FOURTH, n * m), *scratch = take(SCRATCH, NNK_SCRATCH_BYTES);
    for (long k = 0; k < depth; k++) {
        for (long i = 0; i < n; i++)
            L[turned ? k + i * ldl : i + k * ldl] = (real)some(i, 3 * k, 1);
        for (long j = 0; j < m; j++)
            R[k * r_row + j * r_column] = (real)some(j, 7 * k, 1);
    }
    for (long i = 0; i < n * m; i++)
        in_one[i] = in_parts[i] = (real)some(i, 1, 1);
    nnk_product p = {in_one, L, R, n, ldl, r_row, r_column, turned, 0.7, 1, n, m, depth};
    t->gemm(&p, 0, n, 0, m, scratch);
    p.C = in_parts;
    const long row = n > NNK_FEW_ROWS ? n / 2 + 1 : n, column = m / 3 + 1;
    for (long i = 0; i < n; i += row)
        for (long j = 0; j < m; j += column)
            t->gemm(&p, i, i + row < n ? i + row : n, j, j + column < m ? j + column : m, scratch);
    for (long i = 0; i < n * m; i++)
        compare("product in parts", in_parts[i], in_one[i], 0);
}

static void NAME(check_products)(const nnk_tables *tables)
{
    static const int depths[] = {1, 2, 8, 16, 17, 47, 48, 127, 128, 129, 255, 256, 257, 384, 385, 512, 513, 767, 768, 769, 1024, 1025};
    static const int rows[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 24, 25, 28, 29, 31, 32, 33, 48, 63, 64, 65, 130};
    static const int columns[] = {1, 2, 3, 5, 6, 7, 8, 13, 14, 15, 16, 17, 28, 29, 43, 57, 63, 64, 65, 129};
    static const int small_sizes[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18,
                                      19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35};
    static const int few_and_many[] = {20, 67}, past_what_is_packed[] = {385, 417};
    static const int large[][3] = {{67, 300, 401}, {64, 520, 200}, {20, 300, 801}, {3, 600, 390}, {131, 1030, 90}, {24, 800, 33}};
    const nnk_table *t = tables->TABLE;
    compare("bytes that gemm packs into", t->pack_bytes <= NNK_SCRATCH_BYTES, 1, 0);
    for (int d = 0; d < COUNT(depths); d++)
        NAME(products_of_depth)(t, depths[d], rows, COUNT(rows), columns, COUNT(columns), d, 53);
    NAME(products_of_depth)(t, 9, small_sizes, COUNT(small_sizes), small_sizes, COUNT(small_sizes), 0, 4);
    NAME(products_of_depth)(t, 50, small_sizes, COUNT(small_sizes), small_sizes, COUNT(small_sizes), 0, 7);
    NAME(products_of_depth)(t, 300, few_and_many, 2, past_what_is_packed, 2, 0, 1);
    for (int s = 0; s < COUNT(large); s++)
        for (int way = 0; way < 6; way++)
            NAME(products_in_parts)(t, large[s][0], large[s][1], large[s][2], way % 2, way / 2);
}

/* ---- products of bfloat16, and of weights that are kept reduced ---- */

static void NAME(check_packed_product)(const nnk_table *t, long n, long n_prev, long m, int weights)
{
    const nnk_packed_product product = nnk_product_of(weights);
    const long ldx = n_prev + 3, ldc = n + 5;
    nnk_packed p = {NULL, NULL, weights, n, n_prev};
    if (!product)
        return;
    real *X = NAME(take)(FIRST, (m - 1) * ldx + n_prev), *C = NAME(take)(SECOND, (m - 1) * ldc + n);
    real *W = NAME(take)(THIRD, n * n_prev), *scratch = take(SCRATCH, NNK_SCRATCH_BYTES);
    p.W = take(FOURTH, t->packed_bytes(&p));
    p.scale = take(FIFTH, ((size_t)n * sizeof(real) + 63) / 64 * 64);
    /* scales of 1, of units and of examples */
    for (long k = 0; k < n_prev; k++) {
        for (long i = 0; i < n; i++)
            W[i + k * n] = (real)(k ? whole(i, k) : 127);
        for (long j = 0; j < m; j++)
            X[k + j * ldx] = (real)(k == j % n_prev ? 127 : whole(k, j));
    }
    t->pack_weights(&p, W);
    const long parts = t->packed_parts(&p), column = m > 20 ? m / 2 + 1 : m;
    for (long part = 0; part < parts; part++)
        for (long first = 0; first < m; first += column) {
            const nnk_packed_block block = {C, X, ldc, ldx, part, part + 1, first, first + column < m ? first + column : m};
            product(&p, &block, weights == NNK_int8 && m <= NNK_REDUCED_FEW ? NULL : scratch);
        }
    for (long j = 0; j < m; j++)
        for (long i = 0; i < n; i++) {
            double sum = 0;
            for (long k = 0; k < n_prev; k++)
                sum += (double)W[i + k * n] * (double)X[k + j * ldx];
            compare("packed product", C[i + j * ldc], sum, 0);
        }
    NAME(check_beside)("beside a packed product", SECOND, n, ldc);
    NAME(check_beside)("before packed weights", FOURTH, 1, 1);
    NAME(check_beside)("before the scratch", SCRATCH, 1, 1);
}

static void NAME(check_reduced)(const nnk_tables *tables)
{
    static const int depths[] = {16, 17, 31, 32, 33, 255, 256, 257, 511, 512, 513, 1025};
    static const int rows[] = {20, 31, 32, 33, 63, 64, 65, 131}, columns[] = {20, 33, 47, 48, 49, 65, 385, 417};
    static const int large[][3] = {{131, 300, 401}, {98, 520, 417}, {131, 1030, 415}, {33, 800, 60}};
    static const int units[] = {5, 10, 16, 17, 33, 127, 128, 129, 300}, inputs[] = {1, 2, 5, 31, 64, 65, 511, 512, 513, 1030};
    static const int examples[] = {8, 15, 16, 17, 33, 400, 1, 2, 3, 7};
    if (sizeof(real) != 4)
        return;
    for (int d = 0; d < COUNT(depths); d++)
        NAME(products_of_depth)(nnk_bf16_table(), depths[d], rows, COUNT(rows), columns, COUNT(columns), d, 7);
    for (int s = 0; s < COUNT(large); s++)
        for (int way = 0; way < 6; way++)
            NAME(products_in_parts)(nnk_bf16_table(), large[s][0], large[s][1], large[s][2], way % 2, way / 2);
    for (int a = 0; a < COUNT(units); a++)
        for (int b = 0; b < COUNT(inputs); b++)
            for (int weights = NNK_bfloat16; weights < NNK_WEIGHTS; weights++)
                NAME(check_packed_product)(tables->TABLE, units[a], inputs[b], examples[(a + b) % COUNT(examples)], weights);
}
#undef MOST_ROWS
#undef MOST_COLUMNS

/* ---- vectors: dots and add_columns ---- */

static void NAME(check_dots)(const nnk_table *t, long rows, long columns, long lda, long inc_y)
{
    real *A = NAME(take)(FIRST, (columns - 1) * lda + rows), *x = NAME(take)(SECOND, rows);
    real *y = NAME(take)(THIRD, (columns - 1) * inc_y + 1);
    for (long i = 0; i < rows; i++)
        x[i] = (real)whole(i, 3);
    for (long j = 0; j < columns; j++) {
        y[j * inc_y] = (real)j;
        for (long i = 0; i < rows; i++)
            A[i + j * lda] = (real)whole(i, j);
    }
    t->dots(y, inc_y, A, lda, x, 3, rows, columns);
    for (long j = 0; j < columns; j++) {
        double sum = (double)j;
        for (long i = 0; i < rows; i++)
            sum += 3 * whole(i, j) * whole(i, 3);
        compare("dots", y[j * inc_y], sum, 0);
    }
    NAME(check_beside)("beside dots", THIRD, 1, inc_y);
}

static void NAME(check_add_columns)(const nnk_table *t, long rows, long columns, long lda, long inc_x)
{
    /* inc_x may be 0: one number for all columns, which then is the last's */
    const long same = inc_x ? 0 : columns - 1;
    real *A = NAME(take)(FIRST, (columns - 1) * lda + rows), *x = NAME(take)(SECOND, (columns - 1) * inc_x + 1);
    real *y = NAME(take)(THIRD, rows);
    for (long j = 0; j < columns; j++) {
        x[j * inc_x] = (real)whole(j, 3);
        for (long i = 0; i < rows; i++)
            A[i + j * lda] = (real)whole(i, j);
    }
    for (long i = 0; i < rows; i++)
        y[i] = (real)i;
    t->add_columns(y, A, lda, x, inc_x, 3, rows, columns);
    for (long i = 0; i < rows; i++) {
        double sum = (double)i;
        for (long j = 0; j < columns; j++)
            sum += 3 * whole(i, j) * whole(same ? same : j, 3);
        compare("add_columns", y[i], sum, 0);
    }
    NAME(check_beside)("before add_columns", THIRD, 1, 1);
}

/* The sums of numbers that round are the same bits wherever in memory the matrix lies. */
static void NAME(check_places)(const nnk_table *t, long rows, long columns)
{
    const long lda = (rows + 31) / 16 * 16;
    real expected[2][300];
    for (long place = 0; place < 16; place++) {
        real *A = NAME(take)(FIRST, columns * lda + 16 - place), *x = NAME(take)(SECOND, rows + columns);
        for (long i = 0; i < rows + columns; i++)
            x[i] = (real)some(i, 2, 1);
        for (long j = 0; j < columns; j++)
            for (long i = 0; i < rows; i++)
                A[i + j * lda] = (real)some(i, 5 * j, 1);
        real *dots = NAME(take)(THIRD, columns), *sums = NAME(take)(FOURTH, rows);
        memset(dots, 0, (size_t)columns * sizeof(real));
        memset(sums, 0, (size_t)rows * sizeof(real));
        t->dots(dots, 1, A, lda, x, 0.7, rows, columns);
        t->add_columns(sums, A, lda, x + rows, 1, 0.7, rows, columns);
        for (long j = 0; j < columns; j++)
            compare("dots elsewhere", dots[j], place ? expected[0][j] : dots[j], 0);
        for (long i = 0; i < rows; i++)
            compare("add_columns elsewhere", sums[i], place ? expected[1][i] : sums[i], 0);
        if (place == 0) {
            memcpy(expected[0], dots, (size_t)columns * sizeof(real));
            memcpy(expected[1], sums, (size_t)rows * sizeof(real));
        }
    }
}

static void NAME(check_vectors)(const nnk_tables *tables)
{
    static const int rows[] = {1,  2,  3,  4,  5,  7,  8,  9,  13, 15, 16, 17, 31, 32, 33,  47,  48,  49,
                               63, 64, 65, 66, 71, 79, 80, 81, 95, 97, 127, 128, 129, 130, 137, 144, 145, 191, 193, 257, 300};
    static const int columns[] = {1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 20, 31, 32, 33};
    const nnk_table *t = tables->TABLE;
    for (int a = 0; a < COUNT(rows); a++)
        for (int b = 0; b < COUNT(columns); b++)
            /* columns side by side, apart, and all as far from a multiple of a vector */
            for (int way = 0; way < 3; way++) {
                const long lda = way == 0 ? rows[a] : way == 1 ? rows[a] + 1 : (rows[a] + 31) / 16 * 16;
                NAME(check_dots)(t, rows[a], columns[b], lda, 1 + (a + b) % 3);
                NAME(check_add_columns)(t, rows[a], columns[b], lda, (a + b) % 4);
            }
    for (int b = 0; b < COUNT(columns); b++) {
        NAME(check_places)(t, 127 + b, columns[b]);
        NAME(check_places)(t, 261 + b, columns[b]);
    }
}

/* ---- packed weights ---- */

static void NAME(check_packed_layer)(const nnk_table *t, long n, long n_prev, int weights)
{
    nnk_packed p = {NULL, NULL, weights, n, n_prev};
    real *x = NAME(take)(FIRST, n_prev), *z = NAME(take)(SECOND, n), *W = NAME(take)(THIRD, n * n_prev);
    p.W = take(FOURTH, t->packed_bytes(&p));
    p.scale = take(FIFTH, ((size_t)n * sizeof(real) + 63) / 64 * 64);
    /* a scale of 1 */
    for (long i = 0; i < n; i++)
        for (long k = 0; k < n_prev; k++)
            W[i + k * n] = (real)(k ? whole(i, k) : 127);
    for (long k = 0; k < n_prev; k++)
        x[k] = (real)whole(k, 3);
    t->pack_weights(&p, W);
    NAME(check_beside)("before packed weights", FOURTH, 1, 1);
    NAME(check_beside)("before their scale", FIFTH, 1, 1);
    long unpacked = 0;
    for (int part = 0; part < t->packed_parts(&p); part++) {
        t->packed_times_vector(z, &p, x, part);
        for (long k = 0; k < n_prev; k += NNK_UNPACKED_DEPTH) {
            const long depth = n_prev - k < NNK_UNPACKED_DEPTH ? n_prev - k : NNK_UNPACKED_DEPTH;
            nnk_block block;
            t->unpacked(&block, &p, part, k, depth, take(SCRATCH, NNK_UNPACKED_BYTES));
            for (long i = 0; i < block.n; i++)
                for (long q = 0; q < depth; q++, unpacked++)
                    compare("unpacked", ((const real *)block.data)[i * block.row + q * block.column],
                            W[block.first + i + (k + q) * n], 0);
            NAME(check_beside)("before what is unpacked", SCRATCH, 1, 1);
        }
    }
    compare("entries unpacked", (double)unpacked, (double)(n * n_prev), 0);
    for (long i = 0; i < n; i++) {
        double sum = 0;
        for (long k = 0; k < n_prev; k++)
            sum += (k ? whole(i, k) : 127) * whole(k, 3);
        compare("packed_times_vector", z[i], sum, 0);
    }
    NAME(check_beside)("before packed_times_vector", SECOND, 1, 1);
}

static void NAME(check_packed)(const nnk_tables *tables)
{
    static const int units[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48, 63, 64, 65, 80, 96, 97, 112, 113, 127, 128, 129, 145, 257};
    static const int inputs[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 67, 129, 255, 256, 257, 300};
    for (int a = 0; a < COUNT(units); a++)
        for (int b = 0; b < COUNT(inputs); b++)
            for (int weights = 0; weights < (sizeof(real) == 4 ? NNK_WEIGHTS : 1); weights++)
                NAME(check_packed_layer)(tables->TABLE, units[a], inputs[b], weights);
}

/* ---- activations, forward and backward ---- */

static void NAME(check_forward)(const nnk_table *t, int activation, long n, long m, int way)
{
    /* side by side or apart, each of A and Z; with and without b; A is Z */
    const long ldz = way % 2 ? n + 2 : n, lda = way / 2 % 2 ? n + 3 : n;
    const int has_b = way / 4 % 2, in_place = way == 8 || way == 9, is_softmax = activation == NNK_softmax;
    real *Z = NAME(take)(FIRST, (m - 1) * ldz + n), *b = has_b ? NAME(take)(SECOND, n) : NULL;
    real *A = in_place ? Z : NAME(take)(THIRD, (m - 1) * lda + n);
    /* what all units have in common is nothing to softmax, but e^300 would overflow */
    for (long j = 0; j < m; j++)
        for (long i = 0; i < n; i++)
            Z[i + j * ldz] = (real)(some(i, j, 3) + is_softmax * (j % 3 - 1) * 300.0);
    for (long i = 0; has_b && i < n; i++)
        b[i] = (real)some(i, 7, 1);
    t->forward[activation](A, in_place ? ldz : lda, Z, ldz, b, 0.2, n, m);
    for (long j = 0; j < m; j++) {
        double top = -INFINITY, total = 0, z[300];
        for (long i = 0; i < n; i++) {
            const real given = (real)(some(i, j, 3) + is_softmax * (j % 3 - 1) * 300.0);
            z[i] = (double)(real)(given + (has_b ? b[i] : 0));
            top = fmax(top, z[i]);
        }
        for (long i = 0; i < n; i++)
            total += exp(z[i] - top);
        for (long i = 0; i < n; i++) {
            const double a = A[i + j * (in_place ? ldz : lda)];
            if (is_softmax) /* differences up to 8, exponentials, a sum of n, a quotient, a product */
                compare("softmax", a, exp(z[i] - top) / total, (double)(n + 20) * EPSILON * exp(z[i] - top) / total);
            else
                compare("forward", a, g_of(activation, z[i], 0.2), 8 * EPSILON * fabs(g_of(activation, z[i], 0.2)));
        }
    }
    if (in_place)
        NAME(check_beside)("beside A in Z's place", FIRST, n, ldz);
    else
        NAME(check_beside)("beside A", THIRD, n, lda);
}

static void NAME(check_backward)(const nnk_table *t, int activation, long n, long m, int way)
{
    /* side by side, or one of the three apart; with and without db; dZ is dA */
    const long ldda = way % 4 == 1 ? n + 2 : n, ldh = way % 4 == 2 ? n + 3 : n;
    const int has_db = way / 4 % 2, in_place = way / 8;
    const long lddz = in_place ? ldda : way % 4 == 3 ? n + 1 : n;
    real *dA = NAME(take)(FIRST, (m - 1) * ldda + n), *H = NAME(take)(SECOND, (m - 1) * ldh + n);
    real *dZ = in_place ? dA : NAME(take)(THIRD, (m - 1) * lddz + n), *db = has_db ? NAME(take)(FOURTH, n) : NULL;
    for (long j = 0; j < m; j++)
        for (long i = 0; i < n; i++) {
            dA[i + j * ldda] = (real)some(i, j + 5, 2);
            H[i + j * ldh] = (real)(activation == NNK_softmax || activation == NNK_exp ? fabs(some(i, j, 1)) : some(i, j, 1));
        }
    for (long i = 0; has_db && i < n; i++)
        db[i] = (real)some(i, 11, 1);
    const int reads_Z = nnk_activation_facts[activation].derivative_reads_Z;
    t->backward[activation](dZ, lddz, db, dA, ldda, reads_Z ? NULL : H, ldh, reads_Z ? H : NULL, ldh, 0.2, n, m);
    double sums[300], sizes[300];
    for (long i = 0; i < n; i++) {
        sums[i] = (double)(real)some(i, 11, 1);
        sizes[i] = fabs(sums[i]);
    }
    for (long j = 0; j < m; j++) {
        double inner = 0, inner_size = 0;
        for (long i = 0; i < n; i++) {
            inner += (double)(real)some(i, j + 5, 2) * (double)H[i + j * ldh];
            inner_size += fabs((double)(real)some(i, j + 5, 2) * (double)H[i + j * ldh]);
        }
        for (long i = 0; i < n; i++) {
            const double h = H[i + j * ldh], da = (real)some(i, j + 5, 2), dz = dZ[i + j * lddz];
            if (activation == NNK_softmax)
                compare("softmax backward", dz, h * (da - inner), (double)(n + 4) * EPSILON * h * (fabs(da) + inner_size));
            else /* no derivative here is steeper than e: a few roundings of numbers up to that */
                compare("backward", dz, da * dg_of(activation, h, 0.2), 12 * EPSILON * fabs(da));
            sums[i] += dz;
            sizes[i] += fabs(dz);
        }
    }
    for (long i = 0; has_db && i < n; i++)
        compare("db", db[i], sums[i], (double)(m + 2) * EPSILON * sizes[i]);
    if (in_place)
        NAME(check_beside)("beside dZ in dA's place", FIRST, n, ldda);
    else
        NAME(check_beside)("beside dZ", THIRD, n, lddz);
    if (has_db)
        NAME(check_beside)("before db", FOURTH, 1, 1);
}

static void NAME(check_activations)(const nnk_tables *tables)
{
    static const int units[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 18, 24, 31, 32, 33, 40, 47, 48, 49, 55, 63, 64, 65, 66, 97, 127, 128, 129};
    static const int examples[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 25, 33, 63, 64, 65, 130};
    const nnk_table *t = tables->TABLE;
    for (int a = 0; a < COUNT(units); a++)
        for (int b = 0; b < COUNT(examples); b++)
            for (int way = 0; way < 16; way++) {
                /* one activation after the other; softmax always, but few columns of many units */
                const int activation = some_activations[(a + b + way) % COUNT(some_activations)];
                if (way < 10)
                    NAME(check_forward)(t, activation, units[a], examples[b], way);
                NAME(check_backward)(t, activation, units[a], examples[b], way);
                if (examples[b] > 40 || (way > 9 && way != 12 && way != 13))
                    continue;
                if (way < 10)
                    NAME(check_forward)(t, NNK_softmax, units[a], examples[b], way);
                NAME(check_backward)(t, NNK_softmax, units[a], examples[b], way);
            }
}

/* ---- losses ---- */

static void NAME(check_elementwise_loss)(const nnk_table *t, int loss, long n, long m, int weighted)
{
    const double scale = 0.5, parameter = loss == NNK_huber ? 0.7 : 0.25;
    real *Z = NAME(take)(FIRST, n * m), *Y = NAME(take)(SECOND, n * m), *w = weighted ? NAME(take)(THIRD, m) : NULL;
    real *A = NAME(take)(FOURTH, n * m), *dZ = NAME(take)(FIFTH, n * m);
    for (long i = 0; i < n * m; i++) {
        Z[i] = (real)some(i, 1, 2);
        Y[i] = i % 5 == 3 ? Z[i] : (real)fabs(some(i, 2, 1));
    }
    for (long j = 0; weighted && j < m; j++)
        w[j] = (real)(j % 4 ? fabs(some(j, 3, 2)) : 0.75);
    const double cost = t->loss[loss](A, dZ, Z, Y, NULL, w, scale, parameter, n, m);
    double expected = 0, bound = 0;
    for (long i = 0; i < n * m; i++) {
        const double weight = w ? (double)w[i / n] : 1;
        double a, dz, size;
        expected += weight * loss_of(loss, Z[i], Y[i], parameter, &a, &dz, &size);
        bound += weight * size;
        compare("A of a loss", A[i], a, 8 * EPSILON * fabs(a));
        compare("dZ of a loss", dZ[i], weight * scale * dz,
                8 * EPSILON * weight * scale * (fabs(a) + fabs((double)Y[i]) + fabs(dz)));
    }
    /* an entry's own roundings, and a sum of at most 64 in this precision */
    compare("cost", cost, expected, 80 * EPSILON * bound);
    NAME(check_beside)("before A of a loss", FOURTH, 1, 1);
    NAME(check_beside)("before dZ of a loss", FIFTH, 1, 1);
}

static void NAME(check_cross_entropy)(const nnk_table *t, long n, long m, int weighted, int labelled, int smoothed)
{
    const double scale = 0.5, smoothing = smoothed ? 0.125 : 0;
    real *Z = NAME(take)(FIRST, n * m), *Y = labelled ? NULL : NAME(take)(SECOND, n * m);
    real *w = weighted ? NAME(take)(THIRD, m) : NULL, *A = NAME(take)(FOURTH, n * m), *dZ = NAME(take)(FIFTH, n * m);
    int64_t *labels = labelled ? take(SECOND, (size_t)m * sizeof(int64_t)) : NULL;
    for (long j = 0; j < m; j++) {
        if (labelled)
            labels[j] = j * 5 % n;
        if (weighted)
            w[j] = (real)(j % 4 ? fabs(some(j, 3, 2)) : 0.75);
        for (long i = 0; i < n; i++) {
            const int is = labelled ? labels[j] == i : (i + j) % 3 != 1 || n == 1;
            /* what can't be, where it isn't, is no loss; nor where smoothing says that it could */
            Z[i + j * n] = (real)(!is && (i + j) % 7 == 2 && !smoothed ? -INFINITY : some(i, j, 3) + (j % 3 - 1) * 300.0);
            if (!labelled)
                Y[i + j * n] = (real)(is ? fabs(some(i, j + 3, 1)) : 0);
        }
    }
    const double cost = t->loss[NNK_cross_entropy](A, dZ, Z, Y, labels, w, scale, smoothing, n, m);
    double expected = 0, bound = 0;
    for (long j = 0; j < m; j++) {
        const double weight = w ? (double)w[j] : 1;
        double top = -INFINITY, total = 0;
        for (long i = 0; i < n; i++)
            top = fmax(top, Z[i + j * n]);
        for (long i = 0; i < n; i++)
            total += exp(Z[i + j * n] - top);
        for (long i = 0; i < n; i++) {
            const double y = labelled ? labels[j] == i : (double)Y[i + j * n], target = (1 - smoothing) * y + smoothing / (double)n;
            const double a = exp(Z[i + j * n] - top) / total;
            if (target != 0) {
                expected += weight * target * (log(total) + (top - Z[i + j * n]));
                bound += weight * target * (log(total) + 1 + fabs(top - Z[i + j * n]));
            }
            /* differences up to 6, exponentials, a sum of n, a quotient and its product */
            compare("A of cross_entropy", A[i + j * n], a, (double)(n + 20) * EPSILON * a);
            compare("dZ of cross_entropy", dZ[i + j * n], weight * scale * (a - target),
                    (double)(n + 24) * EPSILON * weight * scale * (a + target));
        }
    }
    compare("cost of cross_entropy", cost, expected, (double)(n + 24) * EPSILON * bound);
    NAME(check_beside)("before A of cross_entropy", FOURTH, 1, 1);
    NAME(check_beside)("before dZ of cross_entropy", FIFTH, 1, 1);
}

static void NAME(check_losses)(const nnk_tables *tables)
{
    static const int losses[] = {NNK_binary_cross_entropy, NNK_squared_error, NNK_absolute_error,
                                 NNK_huber, NNK_quantile, NNK_poisson};
    static const int units[] = {1, 2, 3, 5, 8, 16, 17, 33}, examples[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 341};
    static const int classes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33, 63, 64, 65, 127, 128, 129, 145};
    static const int columns[] = {1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 15, 16, 17, 23, 24, 25, 33, 63, 64, 65, 71, 130};
    const nnk_table *t = tables->TABLE;
    for (int weighted = 0; weighted < 2; weighted++) {
        for (int loss = 0; loss < COUNT(losses); loss++) {
            for (int a = 0; a < COUNT(units); a++)
                for (int b = 0; b < COUNT(examples); b++)
                    NAME(check_elementwise_loss)(t, losses[loss], units[a], examples[b], weighted);
            for (long m = 511; m <= 1025; m += m == 513 ? 510 : 1)
                NAME(check_elementwise_loss)(t, losses[loss], 1, m, weighted);
            NAME(check_elementwise_loss)(t, losses[loss], 1, 2500, weighted);
            NAME(check_elementwise_loss)(t, losses[loss], 1100, 2, weighted);
        }
        for (int a = 0; a < COUNT(classes); a++)
            for (int b = 0; b < COUNT(columns); b++)
                for (int way = 0; way < 4; way++)
                    NAME(check_cross_entropy)(t, classes[a], columns[b], weighted, way % 2, way / 2);
    }
}

/* ---- updates ---- */

static void NAME(check_update)(const nnk_table *t, int update, long n, long m, long ld, int penalised, int decayed)
{
    const int has_s1 = nnk_update_facts[update].has_s1, has_s2 = nnk_update_facts[update].has_s2;
    const nnk_step step = {0.1, 0.8, 0.7, 0.6, 0.01, 0.5, decayed ? 0.9 : 1, penalised % 2 * 0.3, penalised / 2 * 0.2};
    const long count = (m - 1) * ld + n;
    real *theta = NAME(take)(FIRST, count), *dtheta = NAME(take)(SECOND, count);
    real *s1 = has_s1 ? NAME(take)(THIRD, count) : NULL, *s2 = has_s2 ? NAME(take)(FOURTH, count) : NULL;
    for (long j = 0; j < m; j++)
        for (long i = j * ld; i < j * ld + n; i++) {
            theta[i] = (real)(i % 7 == 3 ? 0 : some(i, 1, 1));
            dtheta[i] = (real)some(i, 2, 1);
            if (has_s1)
                s1[i] = (real)some(i, 3, 1);
            if (has_s2)
                s2[i] = (real)fabs(some(i, 4, 1));
        }
    const double cost = t->update[update](theta, s1, s2, dtheta, &step, n, m, ld);
    double penalty = 0;
    for (long j = 0; j < m; j++)
        for (long i = j * ld; i < j * ld + n; i++) {
            const double old = (real)(i % 7 == 3 ? 0 : some(i, 1, 1)), d = (real)some(i, 2, 1);
            double first = has_s1 ? (real)some(i, 3, 1) : 0, second = has_s2 ? (real)fabs(some(i, 4, 1)) : 0, new = old;
            const double g = d + step.l2 * old + step.l1 * ((old > 0) - (old < 0));
            penalty += step.l2 / 2 * old * old + step.l1 * fabs(old);
            switch (update) {
            case NNK_sgd: new -= step.rate * g; break;
            case NNK_momentum:
            case NNK_nesterov:
                first = step.inertia * first - step.rate * g;
                new += update == NNK_momentum ? first : step.inertia * first - step.rate * g;
                break;
            case NNK_adam:
                first += (1 - step.beta1) * (g - first);
                second = step.beta2 * second + (1 - step.beta2) * g * g;
                new = step.shrink * old - step.rate * first / (sqrt(second) / step.root + step.eps);
                break;
            case NNK_rmsprop: second = step.beta2 * second + (1 - step.beta2) * g * g; break;
            case NNK_adagrad: second += g * g; break;
            }
            if (update == NNK_rmsprop || update == NNK_adagrad)
                new -= step.rate * g / (sqrt(second) + step.eps);
            /* g ≤ 1.5, states and steps below 3, and no quotient that cancels */
            compare("gradient", dtheta[i], update == NNK_penalise ? g : d, 4 * EPSILON);
            compare("theta", theta[i], new, 12 * EPSILON);
            if (has_s1)
                compare("s1", s1[i], first, 8 * EPSILON);
            if (has_s2)
                compare("s2", s2[i], second, 12 * EPSILON);
        }
    compare("penalty", cost, penalty, 70 * EPSILON * penalty);
    NAME(check_beside)("beside theta", FIRST, n, ld);
    NAME(check_beside)("beside dtheta", SECOND, n, ld);
    if (has_s1)
        NAME(check_beside)("beside s1", THIRD, n, ld);
    if (has_s2)
        NAME(check_beside)("beside s2", FOURTH, n, ld);
}

static void NAME(check_updates)(const nnk_tables *tables)
{
    static const int sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65, 127, 511, 512, 513, 1023, 1024, 1025, 1041, 2100};
    for (int update = 0; update < NNK_UPDATES; update++)
        for (int a = 0; a < COUNT(sizes); a++)
            for (long m = 1; m < 4; m++)
                for (int way = 0; way < 16; way++)
                    NAME(check_update)(tables->TABLE, update, sizes[a], m, sizes[a] + way / 8 * 3, way % 4, way / 4 % 2);
}

/* ---- what moves and scales heaps of numbers ---- */

static void NAME(check_dropout)(const nnk_table *t, uint64_t first, double p, long count)
{
    const uint64_t key = 0x123456789abcdefu, stream = 0x7edcba9800000005u;
    const uint32_t halves[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    real *in = NAME(take)(FIRST, count), *out = NAME(take)(SECOND, count);
    for (long i = 0; i < count; i++)
        in[i] = (real)some(i, 1, 1);
    t->dropout(out, in, key, stream, first, p, count);
    for (long i = 0; i < count; i++) {
        const uint64_t at = (first + (uint64_t)i) / 4;
        const uint32_t counter[4] = {(uint32_t)at, (uint32_t)(at >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
        uint32_t words[4];
        nnk_philox(words, counter, halves);
        const double expected = words[(first + (uint64_t)i) % 4] < p * 4294967296.0 ? 0 : (double)in[i] / (1 - p);
        compare("dropout", out[i], expected, 2 * EPSILON * fabs(expected));
    }
    NAME(check_beside)("before dropout", SECOND, 1, 1);
}

static void NAME(check_move)(const nnk_table *t, long n, long m, int way)
{
    const long row = way % 3 == 0 ? 1 : way % 3 == 1 ? m + 2 : 2, column = way % 3 == 0 ? n + 1 : way % 3 == 1 ? 1 : 2 * n + 3;
    const long count = (n - 1) * row + (m - 1) * column + 1;
    int64_t order[100];
    for (long j = 0; j < m; j++)
        order[j] = (j * 7 + 3) % m;
    real *in = NAME(take)(FIRST, count), *out = NAME(take)(SECOND, n * m), *back = NAME(take)(THIRD, count);
    for (long j = 0; j < m; j++)
        for (long i = 0; i < n; i++)
            in[i * row + j * column] = (real)(i + 1000 * j + 1);
    t->gather(out, in, row, column, way / 3 ? order : NULL, n, m);
    t->scatter(back, row, column, out, n, m);
    for (long j = 0; j < m; j++)
        for (long i = 0; i < n; i++) {
            const double expected = (double)(i + 1000 * (way / 3 ? order[j] : j) + 1);
            compare("gather", out[i + j * n], expected, 0);
            compare("scatter", back[i * row + j * column], expected, 0);
        }
    for (long k = 0; k < count; k++)
        if (isnan(in[k]))
            compare("beside scatter", back[k], NAN, 0);
    NAME(check_beside)("before gather", SECOND, 1, 1);
    NAME(check_beside)("before scatter", THIRD, 1, 1);
}

static void NAME(check_flat)(const nnk_table *t, long count)
{
    real *x = NAME(take)(FIRST, count), *y = NAME(take)(SECOND, count);
    double squares = 0;
    for (long i = 0; i < count; i++) {
        x[i] = (real)whole(i, 1);
        y[i] = (real)whole(i, 2);
    }
    t->add(y, x, count);
    t->scale(y, -3, count);
    for (long i = 0; i < count; i++)
        compare("add, scale", y[i], -3 * (whole(i, 1) + whole(i, 2)), 0);
    const double found = t->clip(x, 2, count);
    for (long i = 0; i < count; i++) {
        const double expected = fmax(-2, fmin(2, whole(i, 1)));
        compare("clip", x[i], expected, 0);
        squares += expected * expected;
    }
    compare("squares of clip", found, squares, 0);
    for (long place = count; place > -1; place -= 1 + place / 7) {
        if (place < count)
            x[place] = (real)(place % 3 == 0 ? NAN : place % 3 == 1 ? INFINITY : -INFINITY);
        compare("first_nonfinite", (double)t->first_nonfinite(x, count), (double)place, 0);
    }
    NAME(check_beside)("before x", FIRST, 1, 1);
    NAME(check_beside)("before y", SECOND, 1, 1);
}

static void NAME(check_moves)(const nnk_tables *tables)
{
    static const int sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 97};
    static const int counts[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 511, 512, 513, 520, 1023, 1024, 1025, 1040, 2050};
    const nnk_table *t = tables->TABLE;
    for (int a = 0; a < COUNT(counts); a++) {
        NAME(check_flat)(t, counts[a]);
        for (int way = 0; way < 8; way++)
            NAME(check_dropout)(t, (uint64_t)(way % 4) + (way > 4 ? 0x3fffffff0u : 0), way % 2 ? 0.3 : 0.75, counts[a]);
    }
    for (int a = 0; a < COUNT(sizes); a++)
        for (int b = 0; b < COUNT(sizes); b++)
            for (int way = 0; way < 6; way++)
                NAME(check_move)(t, sizes[a], sizes[b], way);
}

/* ---- sums: scores, weights, magnitudes, penalties ---- */

/* n outputs of m examples; with weights and without */
static void NAME(check_score)(const nnk_table *t, long n, long m, int weighted)
{
    real *A = NAME(take)(FIRST, n * m), *Y = NAME(take)(SECOND, n * m), *w = NAME(take)(THIRD, m);
    int64_t *labels = take(FOURTH, (size_t)m * sizeof *labels);
    double right[4] = {1, 1, 1, 1}, by_labels = 1, by_Y = 1, sides = 1;
    double *squares = take(FIFTH, (size_t)n * sizeof *squares), expected[40] = {0};
    for (long j = 0; j < m; j++) {
        long best = 0, largest = 0;
        int all = 1;
        for (long i = 0; i < n; i++) {
            A[i + j * n] = (real)some(i, j, 1);
            Y[i + j * n] = (real)some(i, j + j % 3, 1);
            best = A[i + j * n] > A[best + j * n] ? i : best;
            largest = Y[i + j * n] > Y[largest + j * n] ? i : largest;
            all = all && (A[i + j * n] > 0.5) == (Y[i + j * n] > 0.5);
        }
        labels[j] = (best + j % 2) % n;
        w[j] = (real)some(j, 3, 1);
        const double weight = weighted ? (double)w[j] : 1;
        by_labels += best == labels[j] ? weight : 0;
        by_Y += best == largest ? weight : 0;
        sides += all ? weight : 0;
        for (long i = 0; i < n; i++)
            expected[i] += weight * pow((double)A[i + j * n] - (double)Y[i + j * n], 2);
    }
    memset(squares, 0, (size_t)n * sizeof *squares);
    t->score[NNK_score_argmax](&right[0], NULL, A, NULL, labels, weighted ? w : NULL, n, m);
    t->score[NNK_score_argmax](&right[1], NULL, A, Y, NULL, weighted ? w : NULL, n, m);
    t->score[NNK_score_sides](&right[2], NULL, A, Y, NULL, weighted ? w : NULL, n, m);
    t->score[NNK_score_squares](NULL, squares, A, Y, NULL, weighted ? w : NULL, n, m);
    compare("right by labels", right[0], by_labels, 0);
    compare("right by the largest target", right[1], by_Y, 0);
    compare("right by sides", right[2], sides, 0);
    for (long i = 0; i < n; i++)
        compare("squares", squares[i], expected[i], 1e-14 * (double)m);
}

static void NAME(check_sums_of)(const nnk_table *t, long count)
{
    real *x = NAME(take)(FIRST, count);
    int64_t *order = take(SECOND, (size_t)count * sizeof *order);
    double sum = 0, ordered = 0, largest = 0, squares = 3, sizes = 0, plain = 0, most = 0;
    for (long i = 0; i < count; i++) {
        x[i] = (real)some(i, 1, 4);
        order[i] = count - 1 - i;
    }
    for (long i = 0; i < count; i++) {
        sizes += fabs((double)x[i]);
        plain += (double)x[i] * (double)x[i];
        most = fmax(most, fabs((double)x[i]));
    }
    for (long i = 1; i < count; i++) {
        sum += (double)x[i];
        ordered += (double)x[order[i]];
    }
    t->magnitudes(x, count, 0.5, &largest, &squares);
    const double bound = 1e-15 * (double)(count * count);
    compare("total without weights", t->total(NULL, NULL, 1, count - 1), (double)(count - 1), 0);
    compare("total", t->total(x, NULL, 1, count - 1), sum, 0);
    compare("total in order", t->total(x, order, 1, count - 1), ordered, 0);
    compare("largest", largest, most, 0);
    compare("squares of units", squares, 3 + plain / 4, 16 * bound);
    compare("penalty", t->penalty(x, 0.5, 3, count), 0.25 * plain + 3 * sizes, 16 * bound);
    compare("rounded", t->rounded(1.0 / 3), (double)(real)(1.0 / 3), 0);
    compare("itemsize", t->itemsize, sizeof(real), 0);
}

static void NAME(check_sums)(const nnk_tables *tables)
{
    static const int sizes[] = {1, 2, 3, 8, 17, 33};
    for (int a = 0; a < COUNT(sizes); a++)
        for (int b = 0; b < COUNT(sizes); b++)
            for (int weighted = 0; weighted < 2; weighted++)
                NAME(check_score)(tables->TABLE, sizes[a], sizes[b], weighted);
    for (int count = 1; count < 40; count++)
        NAME(check_sums_of)(tables->TABLE, count);
}

#include "encode_checks.h"
#include "sparse_checks.h"
