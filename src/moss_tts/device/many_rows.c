/* What lies between the large products of a network that reads many rows at once: MLX computes it on one core. */

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "arithmetic.h"

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111 };
/* Queries at a time: as many as products of a few rows are for. */
enum { BLOCK = 16 };

void cblas_sgemm(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

/* GELU in GPT-2's approximation, in place. */
void moss_tts_gelu(long count, float *x, int cores) {
#pragma omp parallel for simd num_threads(cores) schedule(static)
    for (long i = 0; i < count; i++) x[i] = by_sigmoid(GELU_ONCE, GELU_CUBED, x[i]);
}

/* The shape of queries, keys, values and results: (B, T, heads, d). */
typedef struct {
    long batch, rows, heads, size;
} shape;

/* Queries first..last of one head: their softmax over all keys, which lie turned, (d, T), and the values that it weighs. */
static void attend(const shape *s, const float *q, const float *keys, const float *v, float *y, long first, long last,
                   float *queries, float *scores) {
    long width = s->heads * s->size, count = last - first;
    float scale = OCTAVES / sqrtf(s->size), sums[BLOCK];
    for (long i = 0; i < count; i++)
        for (long j = 0; j < s->size; j++) queries[i * s->size + j] = scale * q[(first + i) * width + j];
    cblas_sgemm(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, count, s->rows, s->size, 1, queries, s->size, keys, s->rows, 0,
                scores, s->rows);
    for (long i = 0; i < count; i++) {
        float *row = scores + i * s->rows, largest = -INFINITY;
#pragma omp simd reduction(max : largest)
        for (long j = 0; j < s->rows; j++) largest = row[j] > largest ? row[j] : largest;
        sums[i] = powers(s->rows, row, largest);
    }
    y += first * width;
    cblas_sgemm(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, count, s->size, s->rows, 1, scores, s->rows, v, width, 0, y,
                width);
    for (long i = 0; i < count; i++)
        for (long j = 0; j < s->size; j++) y[i * width + j] /= sums[i];
}

/* Attention of all rows to all rows, on some cores. Returns 0 if there is no memory; then nothing was done. */
int moss_tts_attend_all(const shape *s, const float *q, const float *k, const float *v, float *y, int cores) {
    long width = s->heads * s->size, each = s->size * s->rows + BLOCK * (s->size + s->rows) + 2 * LINE;
    float *room = aligned_alloc(64, (sizeof(float) * cores * (each + LINE) + 63) / 64 * 64);
    if (room == NULL) return 0;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(cores)
    for (long b = 0; b < s->batch; b++)
        for (long head = 0; head < s->heads; head++) {
            long start = b * s->rows * width + head * s->size;
            float *next = room + omp_get_thread_num() * ((each + LINE - 1) / LINE * LINE);
            float *keys = taken(&next, s->size * s->rows), *queries = taken(&next, BLOCK * s->size), *scores = next;
            for (long row = 0; row < s->rows; row++)
                for (long j = 0; j < s->size; j++) keys[j * s->rows + row] = k[start + row * width + j];
            for (long first = 0; first < s->rows; first += BLOCK)
                attend(s, q + start, keys, v + start, y + start, first,
                       first + BLOCK < s->rows ? first + BLOCK : s->rows, queries, scores);
        }
    free(room);
    return 1;
}
