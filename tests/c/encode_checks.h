/* The checks of encode.h's and codes.h's kernels, for one precision; kernels_checks.h includes it and says what it has. */

/* A number's features and map, their sums beside them; `both` keeps x and, of two numbers of a layer, is the second one */
static void NAME(check_number)(const nnk_table *t, int periodic, int both, long k, long units, long m)
{
    nnk_number e = {.periodic = periodic, .keeps_x = both, .k = k, .units = units};
    const long rows = both + (units ? units : k), ld = rows + 3, column = 2 + both;
    const long own = t->number_kept(&e), all = own + (both ? 5 : 0), map = units ? units * (k + 1) : 0;
    static double f[40 * 200], slope[40 * 200];
    real *x = NAME(take)(FIRST, (m - 1) * column + 1), *A = NAME(take)(SECOND, (m - 1) * ld + rows);
    real *kept = NAME(take)(THIRD, all * m), *wb = NAME(take)(FOURTH, 2 * k + map), *sums = NAME(take)(FIFTH, 2 * k + map);
    real *dA = NAME(take)(SCRATCH, (m - 1) * ld + rows), *M = wb + 2 * k;
    nnk_number_gradient to = {sums, sums + k, sums + 2 * k};
    e.w = wb;
    e.b = wb + k;
    e.M = M;
    e.kept_at = both ? 5 : 0;
    e.kept_of_all = all;
    for (long i = 0; i < k; i++) {
        wb[i] = (real)(periodic ? some(i, 1, 1) : (double)i / (double)k - 0.5);
        wb[k + i] = (real)(periodic ? some(i, 2, 3) : (double)k);
    }
    for (long i = 0; i < map; i++)
        M[i] = (real)some(i, 3, 1);
    for (long i = 0; i < 2 * k + map; i++)
        sums[i] = 1;
    for (long j = 0; j < m; j++) {
        x[j * column] = (real)some(j, 4, 1);
        for (long i = 0; i < rows; i++)
            dA[i + j * ld] = (real)some(i, j, 1);
        for (long i = 0; i < k; i++) {
            const double w = (double)wb[i], b = (double)wb[k + i], z = (double)x[j * column];
            f[i + j * k] = periodic ? cos(6.283185307179586 * w * z + b) : fmin(1, fmax(0, (z - w) * b));
            slope[i + j * k] = periodic ? -sin(6.283185307179586 * w * z + b) : 0;
        }
    }
    const double bound = 8 * EPSILON * (double)(k + 8);
    t->encode_number(&e, A, ld, kept, x, column, m);
    for (long j = 0; j < m; j++)
        for (long u = 0; u < rows - both; u++) {
            double expected = f[u + j * k];
            if (units) {
                expected = (double)M[u + k * units];
                for (long i = 0; i < k; i++)
                    expected += (double)M[u + i * units] * f[i + j * k];
            }
            compare("encoded number", A[both + u + j * ld], expected, bound);
            if (both)
                compare("number itself", A[j * ld], x[j * column], 0);
        }
    NAME(check_beside)("beside encoded numbers", SECOND, rows, ld);
    t->encode_gradient(&e, &to, dA, ld, kept, x, column, m);
    for (long i = 0; i < k; i++) {
        double dw = 1, db = 1;
        for (long j = 0; j < m; j++) {
            double df = units ? 0 : (double)dA[both + i + j * ld];
            for (long u = 0; u < units; u++)
                df += (double)M[u + i * units] * (double)dA[both + u + j * ld];
            db += df * slope[i + j * k];
            dw += 6.283185307179586 * (double)x[j * column] * df * slope[i + j * k];
        }
        compare("dw", sums[i], periodic ? dw : 1, 10 * bound * (double)(m * (units + 1)));
        compare("db", sums[k + i], periodic ? db : 1, 2 * bound * (double)(m * (units + 1)));
    }
    for (long i = 0; i < (units ? k + 1 : 0); i++)
        for (long u = 0; u < units; u++) {
            double dM = 1;
            for (long j = 0; j < m; j++)
                dM += (double)dA[both + u + j * ld] * (i < k ? f[i + j * k] : 1);
            compare("dM", sums[2 * k + u + i * units], dM, bound * (double)m);
        }
    NAME(check_beside)("before what numbers keep", THIRD, 1, 1);
    NAME(check_beside)("before their gradients", FIFTH, 1, 1);
}

/* What is read of codes; code 0 of each example is skipped */
static void NAME(check_codes)(const nnk_table *t, long n, long m, long size, long count)
{
    const long ld = n + 3;
    real *x = NAME(take)(FIRST, 2 * m - 1), *A = NAME(take)(THIRD, (m - 1) * ld + n);
    int32_t *codes = take(FOURTH, (size_t)(m * count) * sizeof *codes);
    for (long j = 0; j < m; j++)
        x[2 * j] = (real)(j * 5 % (size + 1));
    compare("no bad code", (double)t->first_bad_code(x, 2, size + 1, m), (double)m, 0);
    for (long c = 0; c < count; c++)
        t->read_codes(codes + c, count, x, 2, c % 2, 1, size + 1, m);
    for (long j = 0; j < m; j++)
        for (long c = 0; c < count; c++) {
            const long given = (long)x[2 * j];
            compare("code", codes[c + j * count], given ? (double)(given - 1 + c % 2) : -1, 0);
        }
    for (long j = 0; j < m; j++)
        codes[j] = (int32_t)(j % (n + 1)) - 1;
    t->put_ones(A, ld, codes, n, m);
    for (long j = 0; j < m; j++)
        for (long i = 0; i < n; i++)
            compare("ones", A[i + j * ld], i == codes[j], 0);
    NAME(check_beside)("beside ones", THIRD, n, ld);
    static const double bad[] = {-1, 0.5, 1e30, INFINITY, NAN};
    for (int b = 0; b < COUNT(bad); b++) {
        x[2 * (m - 1)] = (real)bad[b];
        compare("a bad code", (double)t->first_bad_code(x, 2, size + 1, m), (double)(m - 1), 0);
        t->read_codes(codes, 1, x, 2, 0, 0, size + 1, m);
        compare("what is read of it", codes[m - 1], -1, 0);
    }
}

/* Products with what is zeros but for factors, or ones, that codes name: by the kernels of bfloat16 where `rounds` */
static void NAME(check_columns)(const nnk_table *t, int rounds, int scaled, long n, long m, long size, long count)
{
    const long ld = n + 3, apart = count + 1;
    const double alpha = 0.75, bound = 4 * EPSILON * (double)(m * count + n);
    real *W = NAME(take)(FIRST, (size - 1) * ld + n), *dZ = NAME(take)(SECOND, (m - 1) * ld + n);
    real *out = NAME(take)(THIRD, (m - 1) * ld + n), *s = NAME(take)(FOURTH, size), *ds = NAME(take)(FIFTH, size);
    int32_t *codes = take(SCRATCH, (size_t)((m - 1) * apart + count) * sizeof *codes);
    const nnk_codes named = {codes, apart, count, scaled ? s : NULL};
    for (long j = 0; j < m; j++) {
        for (long c = 0; c < count; c++)
            codes[c + j * apart] = (int32_t)((3 * j + 5 * c) % (size + 1)) - 1;
        for (long i = 0; i < n; i++)
            dZ[i + j * ld] = (real)some(i, j, 1);
    }
    for (long c = 0; c < size; c++) {
        s[c] = (real)(c % 3 ? some(c, 7, 2) : 0);
        ds[c] = 1;
        for (long i = 0; i < n; i++)
            W[i + c * ld] = (real)some(c, i + 3, 1);
    }
    t->columns.sum(out, ld, W, ld, &named, n, m);
    for (long j = 0; j < m; j++)
        for (long i = 0; i < n; i++) {
            double sum = 0;
            for (long c = 0; c < count; c++) {
                const long code = codes[c + j * apart];
                if (code >= 0)
                    sum += scaled ? rounded_if(rounds, (double)s[code]) * rounded_if(rounds, (double)W[i + code * ld])
                                  : (double)W[i + code * ld];
            }
            compare("sum of columns", out[i + j * ld], sum, bound);
        }
    NAME(check_beside)("beside sums of columns", THIRD, n, ld);
    t->columns.add_products(ds, W, ld, dZ, ld, &named, n, m);
    for (long k = 0; k < size; k++) {
        double sum = 1;
        for (long j = 0; j < m; j++)
            for (long c = 0; c < count; c++)
                for (long i = 0; codes[c + j * apart] == k && i < n; i++)
                    sum += rounded_if(rounds, (double)W[i + k * ld]) * rounded_if(rounds, (double)dZ[i + j * ld]);
        compare("products of columns", ds[k], sum, 4 * bound * (double)n);
    }
    NAME(check_beside)("before products of columns", FIFTH, 1, 1);
    t->columns.add_to(W, ld, dZ, ld, alpha, &named, n, m);
    for (long k = 0; k < size; k++)
        for (long i = 0; i < n; i++) {
            double sum = (double)(real)some(k, i + 3, 1);
            for (long j = 0; j < m; j++)
                for (long c = 0; c < count; c++)
                    if (codes[c + j * apart] == k)
                        sum += alpha * (scaled ? rounded_if(rounds, (double)s[k]) * rounded_if(rounds, (double)dZ[i + j * ld])
                                               : (double)dZ[i + j * ld]);
            compare("added to columns", W[i + k * ld], sum, 4 * bound);
        }
    NAME(check_beside)("beside columns", FIRST, n, ld);
    NAME(check_beside)("before factors", FOURTH, 1, 1);
}

static void NAME(check_mix)(const nnk_table *t, long n, long m)
{
    real *A = NAME(take)(FIRST, n * m), *B = NAME(take)(SECOND, n * m), *out = NAME(take)(THIRD, n * m);
    real *a = NAME(take)(FOURTH, n), *sums = NAME(take)(FIFTH, n);
    for (long i = 0; i < n; i++) {
        a[i] = (real)whole(i, 5);
        sums[i] = 2;
        for (long j = 0; j < m; j++) {
            A[i + j * n] = (real)whole(i, j);
            B[i + j * n] = (real)whole(j, i + 1);
        }
    }
    t->mix_rows(out, A, B, a, n, m);
    t->add_row_differences(sums, out, A, B, n, m);
    for (long i = 0; i < n; i++) {
        double sum = 2;
        for (long j = 0; j < m; j++) {
            const double difference = whole(i, j) - whole(j, i + 1), mix = whole(j, i + 1) + whole(i, 5) * difference;
            compare("mix", out[i + j * n], mix, 0);
            sum += mix * difference;
        }
        compare("sums of differences", sums[i], sum, 0);
    }
    NAME(check_beside)("before a mix", THIRD, 1, 1);
    NAME(check_beside)("before sums of differences", FIFTH, 1, 1);
}

static void NAME(check_encoders)(const nnk_tables *tables)
{
    static const int features[] = {1, 2, 3, 7, 8, 15, 16, 17, 33, 40}, sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 65};
    const nnk_table *t = tables->TABLE;
    for (int a = 0; a < COUNT(features); a++)
        for (int b = 0; b < COUNT(sizes); b++)
            for (int way = 0; way < 4; way++) {
                NAME(check_number)(t, way % 2, way / 2, features[a], 0, sizes[b]);
                NAME(check_number)(t, way % 2, way / 2, features[a], 1 + (a + b) % 5, sizes[b]);
            }
    for (int a = 0; a < COUNT(sizes); a++)
        for (int b = 0; b < COUNT(sizes); b++) {
            NAME(check_codes)(t, sizes[a], sizes[b], 1 + (a + b) % 7, 1 + b % 3);
            for (int scaled = 0; scaled < 2; scaled++) {
                NAME(check_columns)(t, 0, scaled, sizes[a], sizes[b], 1 + (a + b) % 7, 1 + b % 3);
                if (sizeof(real) == sizeof(float))
                    NAME(check_columns)(nnk_bf16_table(), 1, scaled, sizes[a], sizes[b], 1 + (a + b) % 7, 1 + b % 3);
            }
            NAME(check_mix)(t, sizes[a], sizes[b]);
        }
}
