/* Products of a few rows with a matrix, y (M, N) = x (M, K) @ B (+ y), instead of cblas_sgemm.
 *
 * A BLAS packs the matrix before it multiplies, which for a few rows costs more than the product. Here the matrix is
 * read once, without packing. A row's result does not depend, to the last bit, on how many others there are (but for the
 * last N modulo 8 columns of a product with a transpose, which compilers sum as they like). All other products go to
 * the BLAS that `moss_tts_forward_to` names. */

#include "vectors.h"

#include <omp.h>
#include <string.h>

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };
/* A BLAS is faster with more rows; sooner with a transpose that stays in the cache. */
enum { MOST_ROWS = 32, MOST_ROWS_TURNED = 16 };

/* With more weights than this (2 MB), another thread helps. */
static const long SHARED_FROM = 1L << 19;

/* As many sums at a time as hide the latency of a multiply-add and find room. */
enum { SUMS = LANES };

typedef void gemm(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

/* The arguments of all functions here; a column of `w` is a row of it if the product is with its transpose. */
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

/* ------------------------------------------------------------------------------- B is a transpose: dot products */

/* Dot products of `rows` rows of x with `columns` rows of w; both are constants where this is inlined. */
static inline __attribute__((always_inline)) void dots(const int rows, const int columns, const product *p, long row,
                                                       long column) {
    const int width = p->width;
    const long x_stride = p->x_stride, w_stride = p->w_stride;
    const float *x = p->x + row * x_stride, *w = p->w + column * w_stride;
    float *y = p->y + row * p->y_stride + column;
    lanes sums[SUMS] = {0};
    int k = 0;
    for (; k + LANES <= width; k += LANES) {
        lanes weights[8];
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++) {
            weights[c] = load(w + c * w_stride + k);
            IN_REGISTER(weights[c]);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            lanes values = load(x + r * x_stride + k);
            IN_REGISTER(values);
#pragma GCC unroll 8
            for (int c = 0; c < columns; c++) sums[r * columns + c] += weights[c] * values;
        }
    }
    eight total[SUMS / 8];
#pragma GCC unroll 2
    for (int i = 0; 8 * i < rows * columns; i++) total[i] = totals(sums + 8 * i);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++) {
            int at = r * columns + c;
            float sum = total[at / 8][at % 8];
            for (int rest = k; rest < width; rest++) sum += x[r * x_stride + rest] * w[c * w_stride + rest];
            y[r * p->y_stride + c] += sum;
        }
}

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
        for (; row + 4 <= p->rows; row += 4) ALL_COLUMNS(4, SUMS / 4);
        for (; row + 2 <= p->rows; row += 2) ALL_COLUMNS(2, SUMS / 2);
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
            const float *at = w + d * p->w_stride + n, *ahead = at + 2 * DEPTH * p->w_stride;
            __builtin_prefetch(ahead), __builtin_prefetch(ahead + LANES);
            left[d] = load(at), right[d] = load(at + LANES);
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

/* Columns from..to of y (M, N) += x (M, K) @ w (N, K)^T, by the calling thread. */
void moss_tts_columns(int rows, int columns, int width, const float *x, const float *w, float *y, long from, long to) {
    product whole = {rows, width, x, w, width, width, y, columns};
    by_dots(&whole, from, to);
}

void cblas_sgemm(int order, int turn_a, int turn_b, int M, int N, int K, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc) {
    int large = (long)N * K >= SHARED_FROM;
    int most = turn_b == TRANSPOSE && !large ? MOST_ROWS_TURNED : MOST_ROWS;
    if (forwards_all || M > most || order != ROW_MAJOR || turn_a != NO_TRANSPOSE || alpha != 1 || (beta != 0 && beta != 1)) {
        forward(order, turn_a, turn_b, M, N, K, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    if (beta == 0)
        for (int r = 0; r < M; r++) memset(c + (long)r * ldc, 0, sizeof(float) * N);
    product whole = {M, K, a, b, lda, ldb, c, ldc};
    void (*columns)(const product *, long, long) = turn_b == TRANSPOSE ? by_dots : by_sums;
    int parts = large ? omp_get_max_threads() : 1;
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
