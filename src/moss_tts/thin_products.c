/* Products of a few rows with a matrix, y (M, N) = x (M, K) @ B (+ y), in the place of cblas_sgemm.
 *
 * A BLAS packs the matrix before it multiplies, which for a few rows costs more than the product. Here it is read
 * once, where it lies. A row's result does not depend, to the last bit, on how many others there are (but for the
 * last N modulo 8 columns of a product with a transpose, which compilers sum as they like). All other products go to
 * the BLAS that `moss_tts_forward_to` names. */

#include <omp.h>
#include <string.h>

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112, LANES = 8 };
/* A BLAS is faster with more rows; large weights are turned, and what is gained by not packing them ends sooner. */
enum { MOST_ROWS = 32, MOST_ROWS_TURNED = 16 };

/* Weights above which another thread is worth waking: 4 MB. */
static const long SHARED_FROM = 1L << 20;

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef void gemm(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

/* What all functions here work on; a column of `w` is a row of it where the product is with its transpose. */
typedef struct {
    int rows, width;
    const float *x, *w;
    long x_stride, w_stride;
    float *y;
    long y_stride;
} product;

static gemm *forward;
static int forwards_all;

void moss_tts_forward_to(gemm *target, int all) { forward = target, forwards_all = all; }

static inline lanes load(const float *from) { return *(const lanes *)from; }

/* ------------------------------------------------------------------------------- B is a transpose: dot products */

typedef int order8 __attribute__((vector_size(4 * LANES)));

/* The sums of the lanes of eight vectors. */
static inline lanes totals(const lanes *s) {
    lanes pairs[4], fours[2];
    for (int i = 0; i < 4; i++)
        pairs[i] = __builtin_shuffle(s[2 * i], s[2 * i + 1], (order8){0, 8, 2, 10, 4, 12, 6, 14}) +
                   __builtin_shuffle(s[2 * i], s[2 * i + 1], (order8){1, 9, 3, 11, 5, 13, 7, 15});
    for (int i = 0; i < 2; i++)
        fours[i] = __builtin_shuffle(pairs[2 * i], pairs[2 * i + 1], (order8){0, 1, 8, 9, 4, 5, 12, 13}) +
                   __builtin_shuffle(pairs[2 * i], pairs[2 * i + 1], (order8){2, 3, 10, 11, 6, 7, 14, 15});
    return __builtin_shuffle(fours[0], fours[1], (order8){0, 1, 2, 3, 8, 9, 10, 11}) +
           __builtin_shuffle(fours[0], fours[1], (order8){4, 5, 6, 7, 12, 13, 14, 15});
}

/* Dot products of `rows` rows of x with `columns` rows of w; both are constants where this is inlined. */
static inline __attribute__((always_inline)) void dots(const int rows, const int columns, const product *p, long row,
                                                       long column) {
    const float *x = p->x + row * p->x_stride, *w = p->w + column * p->w_stride;
    float *y = p->y + row * p->y_stride + column;
    lanes sums[8] = {0};
    int k = 0;
    for (; k + LANES <= p->width; k += LANES) {
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++) {
            lanes weights = load(w + c * p->w_stride + k);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) sums[r * columns + c] += weights * load(x + r * p->x_stride + k);
        }
    }
    lanes total = totals(sums);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            float sum = total[r * columns + c];
            for (int rest = k; rest < p->width; rest++) sum += x[r * p->x_stride + rest] * w[c * p->w_stride + rest];
            y[r * p->y_stride + c] += sum;
        }
}

/* Eight sums are kept at a time: as many as it takes to hide the latency of a multiply-add. */
#define ALL_COLUMNS(rows, step)                                                                                    \
    do {                                                                                                           \
        long n = from;                                                                                             \
        for (; n + step <= to; n += step) dots(rows, step, p, row, n);                                             \
        for (; n < to; n++) dots(rows, 1, p, row, n);                                                              \
    } while (0)

/* Columns from..to of x (M, K) @ w (N, K)^T, a few at a time so that all rows find them in the cache. */
static void by_dots(const product *p, long first, long last) {
    for (long from = first; from < last; from += 8) {
        long to = from + 8 < last ? from + 8 : last, row = 0;
        for (; row + 4 <= p->rows; row += 4) ALL_COLUMNS(4, 2);
        for (; row + 2 <= p->rows; row += 2) ALL_COLUMNS(2, 4);
        for (; row < p->rows; row++) ALL_COLUMNS(1, 8);
    }
}

/* -------------------------------------------------------------------------- B as it is: sums of its scaled rows */

/* Sums that stay in the innermost cache, of at most so many columns of each row. */
enum { MOST_SUMS = 6144, MOST_COLUMNS = 512, DEPTH = 4 };

/* Add rows k..k+depth of w, times a column of x, to the first `columns` of y; depth is a constant. */
static inline __attribute__((always_inline)) void add_scaled(const int depth, const product *p, int k, long columns) {
    const float *w = p->w + k * p->w_stride, *x = p->x + k;
    long n = 0;
    for (; n + 2 * LANES <= columns; n += 2 * LANES) {
        lanes left[DEPTH], right[DEPTH];
#pragma GCC unroll 4
        for (int d = 0; d < depth; d++) {
            __builtin_prefetch(w + (d + 2 * DEPTH) * p->w_stride + n);
            left[d] = load(w + d * p->w_stride + n), right[d] = load(w + d * p->w_stride + n + LANES);
        }
        for (int r = 0; r < p->rows; r++) {
            lanes *at = (lanes *)(p->y + r * p->y_stride + n);
            lanes first = at[0], second = at[1];
#pragma GCC unroll 4
            for (int d = 0; d < depth; d++) {
                first += x[r * p->x_stride + d] * left[d];
                second += x[r * p->x_stride + d] * right[d];
            }
            at[0] = first, at[1] = second;
        }
    }
    for (; n < columns; n++)
        for (int r = 0; r < p->rows; r++)
            for (int d = 0; d < depth; d++)
                p->y[r * p->y_stride + n] += x[r * p->x_stride + d] * w[d * p->w_stride + n];
}

/* Columns from..to of x (M, K) @ w (K, N), in blocks whose sums are kept close together: rows of y a power of two
 * apart would drive each other out of the cache. */
static void by_sums(const product *p, long first, long last) {
    long block = MOST_SUMS / p->rows / (2 * LANES) * (2 * LANES);
    if (block > MOST_COLUMNS) block = MOST_COLUMNS;
    float sums[MOST_SUMS];
    for (long from = first; from < last; from += block) {
        long size = from + block < last ? block : last - from;
        product part = {p->rows, p->width, p->x, p->w + from, p->x_stride, p->w_stride, sums, block};
        float *y = p->y + from;
        for (int r = 0; r < p->rows; r++) memcpy(sums + r * block, y + r * p->y_stride, sizeof(float) * size);
        int k = 0;
        for (; k + DEPTH <= p->width; k += DEPTH) add_scaled(DEPTH, &part, k, size);
        for (; k < p->width; k++) add_scaled(1, &part, k, size);
        for (int r = 0; r < p->rows; r++) memcpy(y + r * p->y_stride, sums + r * block, sizeof(float) * size);
    }
}

/* --------------------------------------------------------------------------------------------------------------- */

void cblas_sgemm(int order, int turn_a, int turn_b, int M, int N, int K, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc) {
    int most = turn_b == TRANSPOSE ? MOST_ROWS_TURNED : MOST_ROWS;
    if (forwards_all || M > most || order != ROW_MAJOR || turn_a != NO_TRANSPOSE || alpha != 1 || (beta != 0 && beta != 1)) {
        forward(order, turn_a, turn_b, M, N, K, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    if (beta == 0)
        for (int r = 0; r < M; r++) memset(c + (long)r * ldc, 0, sizeof(float) * N);
    product whole = {M, K, a, b, lda, ldb, c, ldc};
    void (*columns)(const product *, long, long) = turn_b == TRANSPOSE ? by_dots : by_sums;
    int parts = (long)N * K >= SHARED_FROM ? omp_get_max_threads() : 1;
    if (parts == 1) { /* even a team of one costs a call of the system */
        columns(&whole, 0, N);
        return;
    }
    long share = ((N + parts - 1) / parts + 63) / 64 * 64;
#pragma omp parallel for schedule(static, 1) num_threads(parts)
    for (int part = 0; part < parts; part++) {
        long from = part * share, to = from + share < N ? from + share : N;
        columns(&whole, from, to);
    }
}
