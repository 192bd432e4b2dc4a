# The kernels, as nnk.h declares them; the meaning of everything stands there.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from "kernels/nnk.h" nogil:
    enum:
        NNK_ACTIVATIONS
        NNK_linear
        NNK_sigmoid
        NNK_softmax
        NNK_LOSSES
        NNK_score_argmax
        NNK_score_squares
        NNK_UPDATES
        NNK_penalise
        NNK_sgd
        NNK_adam
        NNK_whole
        NNK_bfloat16
        NNK_int8
        NNK_UNPACKED_DEPTH
        NNK_REDUCED_COLUMNS
        NNK_REDUCED_FEW
        NNK_UNPACKED_BYTES
        NNK_FEW_ROWS

    ctypedef struct nnk_activation_fact:
        const char *name
        bint derivative_reads_Z
        const char *initializer

    const nnk_activation_fact nnk_activation_facts[]

    ctypedef struct nnk_product:
        void *C
        const void *A
        const void *B
        Py_ssize_t ldc, lda, rs_b, cs_b
        bint transpose_a
        double alpha, beta
        Py_ssize_t n, m, k

    ctypedef struct nnk_packed:
        void *W
        void *scale
        int weights
        Py_ssize_t n, n_prev

    ctypedef struct nnk_block:
        const void *data
        Py_ssize_t first, n, row, column

    ctypedef struct nnk_loss_fact:
        const char *name
        int output, score

    const nnk_loss_fact nnk_loss_facts[]

    ctypedef struct nnk_update_fact:
        const char *name
        bint has_s1, has_s2

    const nnk_update_fact nnk_update_facts[]

    ctypedef struct nnk_step:
        double rate, inertia, beta1, beta2, eps, root, shrink, l2, l1

    ctypedef void (*nnk_forward)(
        void *A, Py_ssize_t lda, const void *Z, Py_ssize_t ldz, const void *b, double slope,
        Py_ssize_t n, Py_ssize_t m) noexcept nogil
    ctypedef void (*nnk_backward)(
        void *dZ, Py_ssize_t lddz, void *db, const void *dA, Py_ssize_t ldda, const void *A, Py_ssize_t lda,
        const void *Z, Py_ssize_t ldz, double slope, Py_ssize_t n, Py_ssize_t m) noexcept nogil
    ctypedef double (*nnk_loss)(
        void *A, void *dZ, const void *Z, const void *Y, const int64_t *labels, const void *w, double scale,
        double parameter, Py_ssize_t n, Py_ssize_t m) noexcept nogil
    ctypedef double (*nnk_update)(
        void *theta, void *s1, void *s2, void *dtheta, const nnk_step *step, Py_ssize_t n, Py_ssize_t m,
        Py_ssize_t ld) noexcept nogil

    ctypedef void (*nnk_score)(
        double *right, double *squares, const void *A, const void *Y, const int64_t *labels, const void *w,
        Py_ssize_t n, Py_ssize_t m) noexcept nogil

    ctypedef struct nnk_number:
        int periodic, keeps_x
        Py_ssize_t k, units, kept_at, kept_of_all
        const void *w
        const void *b
        const void *M

    ctypedef struct nnk_number_gradient:
        void *dw
        void *db
        void *dM

    ctypedef struct nnk_codes:
        const int32_t *codes
        Py_ssize_t apart, count
        const void *s

    ctypedef struct nnk_sparse:
        const int64_t *starts
        const int32_t *rows
        const void *values
        const int64_t *order
        Py_ssize_t first

    ctypedef struct nnk_columns:
        void sum(
            void *out, Py_ssize_t ldo, const void *W, Py_ssize_t ldw, const nnk_codes *named, Py_ssize_t n,
            Py_ssize_t m) noexcept nogil
        void add_to(
            void *dW, Py_ssize_t ldw, const void *dZ, Py_ssize_t ldz, double alpha, const nnk_codes *named,
            Py_ssize_t n, Py_ssize_t m) noexcept nogil
        void add_products(
            void *ds, const void *W, Py_ssize_t ldw, const void *dZ, Py_ssize_t ldz, const nnk_codes *named,
            Py_ssize_t n, Py_ssize_t m) noexcept nogil
        void sum_sparse(
            void *out, Py_ssize_t ldo, const void *W, Py_ssize_t ldw, const nnk_sparse *X, Py_ssize_t n,
            Py_ssize_t m) noexcept nogil
        void add_to_sparse(
            void *dW, Py_ssize_t ldw, const void *dZ, Py_ssize_t ldz, double alpha, const nnk_sparse *X,
            Py_ssize_t n, Py_ssize_t m) noexcept nogil

    ctypedef struct nnk_table:
        int itemsize
        size_t pack_bytes
        const void *one
        double rounded(double x) noexcept nogil
        nnk_forward forward[1]
        nnk_backward backward[1]
        nnk_loss loss[1]
        nnk_update update[1]
        void gemm(
            const nnk_product *p, Py_ssize_t row, Py_ssize_t row_end, Py_ssize_t first, Py_ssize_t end,
            void *scratch) noexcept nogil
        Py_ssize_t gemm_block(const nnk_product *p, Py_ssize_t rows) noexcept nogil
        void dots(
            void *y, Py_ssize_t inc_y, const void *A, Py_ssize_t lda, const void *x, double alpha,
            Py_ssize_t rows, Py_ssize_t columns) noexcept nogil
        void add_columns(
            void *y, const void *A, Py_ssize_t lda, const void *x, Py_ssize_t inc_x, double alpha,
            Py_ssize_t rows, Py_ssize_t columns) noexcept nogil
        void pack_weights(const nnk_packed *p, const void *W) noexcept nogil
        size_t packed_bytes(const nnk_packed *p) noexcept nogil
        Py_ssize_t packed_parts(const nnk_packed *p) noexcept nogil
        Py_ssize_t packed_first(const nnk_packed *p, Py_ssize_t part) noexcept nogil
        int packed_by_rows(const nnk_packed *p) noexcept nogil
        void packed_times_vector(void *z, const nnk_packed *p, const void *x, Py_ssize_t part) noexcept nogil
        void unpacked(
            nnk_block *block, const nnk_packed *p, Py_ssize_t part, Py_ssize_t k, Py_ssize_t depth,
            void *scratch) noexcept nogil
        void dropout(
            void *out, const void *in_, uint64_t key, uint64_t stream, uint64_t first, double p,
            Py_ssize_t count) noexcept nogil
        void gather(
            void *out, const void *in_, Py_ssize_t row_stride, Py_ssize_t column_stride, const int64_t *order,
            Py_ssize_t n, Py_ssize_t m) noexcept nogil
        void scatter(
            void *out, Py_ssize_t row_stride, Py_ssize_t column_stride, const void *in_,
            Py_ssize_t n, Py_ssize_t m) noexcept nogil
        void scale(void *x, double a, Py_ssize_t count) noexcept nogil
        void add(void *y, const void *x, Py_ssize_t count) noexcept nogil
        double clip(void *x, double limit, Py_ssize_t count) noexcept nogil
        Py_ssize_t first_nonfinite(const void *x, Py_ssize_t count) noexcept nogil
        nnk_score score[1]
        double total(const void *w, const int64_t *order, Py_ssize_t first, Py_ssize_t count) noexcept nogil
        void magnitudes(
            const void *x, Py_ssize_t count, double unit, double *largest, double *squares) noexcept nogil
        double penalty(const void *W, double l2, double l1, Py_ssize_t count) noexcept nogil
        void scale_rows(
            void *out, const void *in_, Py_ssize_t ld, const void *s, Py_ssize_t n, Py_ssize_t m) noexcept nogil
        void add_row_products(
            void *ds, const void *dA, const void *A_prev, Py_ssize_t row, Py_ssize_t column, Py_ssize_t n,
            Py_ssize_t m) noexcept nogil
        Py_ssize_t number_kept(const nnk_number *e) noexcept nogil
        void encode_number(
            const nnk_number *e, void *A, Py_ssize_t ld, void *kept, const void *x, Py_ssize_t column,
            Py_ssize_t m) noexcept nogil
        void encode_gradient(
            const nnk_number *e, const nnk_number_gradient *to, const void *dA, Py_ssize_t ld, void *kept,
            const void *x, Py_ssize_t column, Py_ssize_t m) noexcept nogil
        Py_ssize_t first_bad_code(const void *x, Py_ssize_t column, Py_ssize_t size, Py_ssize_t m) noexcept nogil
        void read_codes(
            int32_t *codes, Py_ssize_t apart, const void *x, Py_ssize_t column, Py_ssize_t first, Py_ssize_t skipped,
            Py_ssize_t size, Py_ssize_t m) noexcept nogil
        nnk_columns columns
        void put_ones(void *out, Py_ssize_t ldo, const int32_t *codes, Py_ssize_t n, Py_ssize_t m) noexcept nogil
        void mix_rows(
            void *out, const void *A, const void *B, const void *a, Py_ssize_t n, Py_ssize_t m) noexcept nogil
        void add_row_differences(
            void *da, const void *d, const void *A, const void *B, Py_ssize_t n, Py_ssize_t m) noexcept nogil
        double multiply_adds(double *sum, Py_ssize_t rounds) noexcept nogil

    ctypedef struct nnk_packed_block:
        void *C
        const void *X
        Py_ssize_t ldc, ldx, part, part_end, first, end

    ctypedef void (*nnk_packed_product)(
        const nnk_packed *p, const nnk_packed_block *block, void *scratch) noexcept nogil

    ctypedef struct nnk_reduced:
        const char *by

    ctypedef struct nnk_tables:
        const char *isa
        int vector_bytes
        const nnk_table *f32
        const nnk_table *f64
        const nnk_reduced *reduced

    const nnk_tables *nnk_choose_tables() noexcept
    const nnk_table *nnk_bf16_table() noexcept
    nnk_packed_product nnk_product_of(int weights) noexcept
    const char *const *nnk_usable_isas() noexcept
    void nnk_shuffle(int64_t *order, int64_t count, uint64_t key, uint64_t epoch) noexcept
    void nnk_philox(uint32_t *out, const uint32_t *counter, const uint32_t *key) noexcept

cdef extern from "numpy/random/bitgen.h" nogil:
    ctypedef struct bitgen_t:
        void *state
        uint64_t (*next_uint64)(void *state) noexcept nogil
        uint32_t (*next_uint32)(void *state) noexcept nogil
