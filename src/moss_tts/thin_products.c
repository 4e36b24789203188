/* Products of a few rows with a matrix, y (M, N) = x (M, K) @ B, in the place of cblas_sgemm.
 *
 * A BLAS packs the matrix before it multiplies, which for one or two rows costs more than the product, and for up to
 * eight where the matrix comes from memory and not from a cache. Here it is read once, where it lies. All other
 * products go to the BLAS that `moss_tts_forward_to` names. */

#include <omp.h>

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112, MOST_ROWS = 8, LANES = 8 };

/* Weights above which another thread is worth waking: 4 MB. */
static const long SHARED_FROM = 1L << 20;

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef void gemm(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

static gemm *forward;

void moss_tts_forward_to(gemm *target) { forward = target; }

static inline lanes load(const float *from) { return *(const lanes *)from; }

/* Dot products of `rows` rows of x with `columns` rows of w; both are constants where this is inlined. */
static inline __attribute__((always_inline)) void dots(const int rows, const int columns, int width, const float *x,
                                                       long x_stride, const float *w, long w_stride, float *y,
                                                       long y_stride) {
    lanes sums[8] = {0};
    int k = 0;
    for (; k + LANES <= width; k += LANES) {
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++) {
            lanes weights = load(w + c * w_stride + k);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) sums[c * rows + r] += weights * load(x + r * x_stride + k);
        }
    }
    for (int c = 0; c < columns; c++) {
        for (int r = 0; r < rows; r++) {
            lanes sum = sums[c * rows + r];
            float total = ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
            for (int rest = k; rest < width; rest++) total += x[r * x_stride + rest] * w[c * w_stride + rest];
            y[r * y_stride + c] = total;
        }
    }
}

/* Eight sums are kept at a time: as many as it takes to hide the latency of a multiply-add. */
#define ALL_COLUMNS(rows, step)                                                                                    \
    do {                                                                                                           \
        long n = from;                                                                                             \
        for (; n + step <= to; n += step) dots(rows, step, width, x, lda, w + n * ldw, ldw, y + n, ldy);           \
        for (; n < to; n++) dots(rows, 1, width, x, lda, w + n * ldw, ldw, y + n, ldy);                            \
    } while (0)

/* Columns from..to of x (M, K) @ w (N, K)^T. */
static void by_dots(int count, long from, long to, int width, const float *x, long lda, const float *w, long ldw,
                    float *y, long ldy) {
    for (; count >= 4; count -= 4, x += 4 * lda, y += 4 * ldy) ALL_COLUMNS(4, 2);
    if (count == 3) ALL_COLUMNS(3, 2);
    if (count == 2) ALL_COLUMNS(2, 4);
    if (count == 1) ALL_COLUMNS(1, 8);
}

/* Columns from..to of x (M, K) @ w (K, N), 64 columns at a time. */
static void by_sums(int count, long from, long to, int width, const float *x, long lda, const float *w, long ldw,
                    float *y, long ldy) {
    for (int r = 0; r < count; r++) {
        long n = from;
        for (; n + 8 * LANES <= to; n += 8 * LANES) {
            lanes sums[8] = {0};
            for (int k = 0; k < width; k++) {
                const float *row = w + k * ldw + n;
#pragma GCC unroll 8
                for (int c = 0; c < 8; c++) sums[c] += x[r * lda + k] * load(row + c * LANES);
            }
            for (int c = 0; c < 8; c++) *(lanes *)(y + r * ldy + n + c * LANES) = sums[c];
        }
        for (; n + LANES <= to; n += LANES) {
            lanes sum = {0};
            for (int k = 0; k < width; k++) sum += x[r * lda + k] * load(w + k * ldw + n);
            *(lanes *)(y + r * ldy + n) = sum;
        }
        for (; n < to; n++) {
            float sum = 0;
            for (int k = 0; k < width; k++) sum += x[r * lda + k] * w[k * ldw + n];
            y[r * ldy + n] = sum;
        }
    }
}

void cblas_sgemm(int order, int turn_a, int turn_b, int M, int N, int K, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc) {
    long weights = (long)N * K;
    int thin = M <= 2 || (M <= MOST_ROWS && turn_b == TRANSPOSE && weights >= SHARED_FROM);
    if (!thin || order != ROW_MAJOR || turn_a != NO_TRANSPOSE || alpha != 1 || beta != 0) {
        forward(order, turn_a, turn_b, M, N, K, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    int parts = weights >= SHARED_FROM ? omp_get_max_threads() : 1;
    long share = ((N + parts - 1) / parts + 63) / 64 * 64;
#pragma omp parallel for schedule(static, 1) num_threads(parts) if (parts > 1)
    for (int part = 0; part < parts; part++) {
        long from = part * share, to = from + share < N ? from + share : N;
        if (turn_b == TRANSPOSE)
            by_dots(M, from, to, K, a, lda, b, ldb, c, ldc);
        else
            by_sums(M, from, to, K, a, lda, b, ldb, c, ldc);
    }
}
