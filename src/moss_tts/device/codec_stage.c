/* A transformer stage of the codec over the next steps of many streams: the same computation as in
 * codec/transformer.py and codec/window.py with MLX.
 *
 * The N steps of all streams lie one after the other; D is the width of the stage. All arrays are float32, with
 * contiguous rows. Products call cblas_sgemm, which thin_products.c replaces. */

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "arithmetic.h"

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };
/* Queries that look at the same steps: few, so that little of what is computed is masked, and as many as products of
 * a few rows are for. */
enum { BLOCK = 16 };
/* From this many values on, another core helps. */
static const long SHARED_FROM = 1L << 16;

void cblas_sgemm(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

typedef struct {
    const float *norm1_weight, *norm1_bias, *in_proj, *out_proj, *norm2_weight, *norm2_bias, *up, *down;
} layer;

typedef struct {
    const layer *layers;
    const float *input_proj, *output_proj; /* NULL if there is none */
    int n_layers, input, width, output, heads, hidden, window;
} stage;

/* The new steps of a stream and its past: keys and values of a step in one slot of (layers, 2, slots, D). */
typedef struct {
    float *past;
    long slots;
    long used;    /* slots before the first free one */
    long carried; /* the last of them, which may be seen */
    long first;   /* of N: where its steps are */
    long steps;
} stream;

/* ------------------------------------------------------------------------------------------------- row by row */

static void normalise(long rows, int width, const float *x, const float *weight, const float *bias, float *y,
                      int cores) {
#pragma omp parallel for num_threads(cores) if (cores > 1 && rows * width >= SHARED_FROM)
    for (long row = 0; row < rows; row++)
        normalise_row(width, 1e-5f, x + row * width, weight, bias, y + row * width);
}

/* x times the normal distribution function, by the ratio of polynomials of transformer.py (gelu_by_ratio). */
static inline float gelu_of(float x) {
    float low = x < -5.6f ? -5.6f : x, bounded = low > 5.6f ? 5.6f : low, s = bounded * bounded;
    float above = 2.21451917e-08f * s + 6.35650533e-06f, below = 1.18020638e-06f * s + 7.51016568e-05f;
    above = (((above * s + 0.000173850309f) * s + 0.00470725686f) * s + 0.0343760929f) * s + 0.398942222f;
    below = (((below * s + 0.00191297607f) * s + 0.0289400752f) * s + 0.2528338f) * s + 1;
    return x * (0.5f + bounded * (above / below));
}

static void gelu(long rows, int width, float *x, int cores) {
#pragma omp parallel for num_threads(cores) if (cores > 1 && rows * width >= SHARED_FROM)
    for (long row = 0; row < rows; row++) {
        float *at = x + row * width;
#pragma omp simd
        for (int i = 0; i < width; i++) at[i] = gelu_of(at[i]);
    }
}

/* ------------------------------------------------------------------------------------------------- attention */

/* Rotate a stream's queries and keys, which lie with its values in `mixed` (N, 3, D); keys and values join its past. */
static void append(const stage *s, const stream *at, int index, const float *cosines, const float *sines,
                   float *mixed) {
    int width = s->width, half = width / s->heads / 2;
    float *keys = at->past + (2L * index * at->slots + at->used) * width, *values = keys + at->slots * width;
    float scale = OCTAVES / sqrtf(2 * half); /* scores are powers of two */
    for (long step = 0; step < at->steps; step++) {
        long row = at->first + step;
        float *from = mixed + row * 3 * width;
        turn(2 * s->heads, half, cosines + row * half, sines + row * half, from);
        memcpy(keys + step * width, from + width, sizeof(float) * width);
        memcpy(values + step * width, from + 2 * width, sizeof(float) * width);
        for (int i = 0; i < width; i++) from[i] *= scale;
    }
}

/* Attention of one head for a stream's steps from..to, into y (N, D); `scores` has room for all scores. */
static void attend(const stage *s, const stream *at, int index, int head, long from, long to, const float *mixed,
                   float *y, float *scores) {
    int width = s->width, size = width / s->heads;
    long own = at->used + from, oldest = at->used - at->carried, first = own - s->window + 1;
    if (first < oldest) first = oldest;
    long seen = at->used + to - first;
    const float *queries = mixed + (at->first + from) * 3 * width + head * size;
    const float *keys = at->past + (2L * index * at->slots + first) * width + head * size;
    const float *values = keys + at->slots * width;
    cblas_sgemm(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, to - from, seen, size, 1, queries, 3 * width, keys, width, 0,
                scores, seen);
    float sums[BLOCK];
    for (long query = 0; query < to - from; query++) {
        float *row = scores + query * seen, largest = -INFINITY;
        long stop = own + query + 1 - first, start = stop > s->window ? stop - s->window : 0;
#pragma omp simd reduction(max : largest)
        for (long i = start; i < stop; i++) largest = row[i] > largest ? row[i] : largest;
        sums[query] = powers(stop - start, row + start, largest);
        memset(row, 0, sizeof(float) * start);
        memset(row + stop, 0, sizeof(float) * (seen - stop));
    }
    y += (at->first + from) * width + head * size;
    cblas_sgemm(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, to - from, size, seen, 1, scores, seen, values, width, 0, y,
                width);
    for (long query = 0; query < to - from; query++)
        for (int i = 0; i < size; i++) y[query * width + i] /= sums[query];
}

/* ------------------------------------------------------------------------------------------------------------ */

/* x (rows, depth) @ w (columns, depth)^T, added to keep * y. */
static void product(long rows, int columns, int depth, const float *x, const float *w, float keep, float *y) {
    cblas_sgemm(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, rows, columns, depth, 1, x, depth, w, depth, keep, y, columns);
}

static long larger(long left, long right) { return left > right ? left : right; }

/* Steps (N, input) -> (N, output), with the angles of each pair of a head (N, D / heads / 2), on some cores.
 * Returns 0 if there is no memory; then nothing was done. */
int moss_tts_codec_stage(const stage *s, int n_streams, const stream *streams, const float *cosines,
                         const float *sines, const float *in, float *out, int cores) {
    int width = s->width;
    long rows = 0, most = 0, seen = 0, wide = larger(3 * width, s->hidden);
    for (int n = 0; n < n_streams; n++) {
        rows += streams[n].steps;
        most = larger(most, streams[n].steps);
        seen = larger(seen, streams[n].carried + streams[n].steps);
    }
    seen = seen < s->window + BLOCK ? seen : s->window + BLOCK;
    float *x = malloc(sizeof(float) * (rows * (2 * width + wide) + cores * BLOCK * seen + 1));
    if (x == NULL) return 0;
    float *y = x + rows * width, *mixed = y + rows * width, *scores = mixed + rows * wide;

    if (s->input_proj) product(rows, width, s->input, in, s->input_proj, 0, x);
    else memcpy(x, in, sizeof(float) * rows * width);
    for (int index = 0; index < s->n_layers; index++) {
        const layer *w = s->layers + index;
        normalise(rows, width, x, w->norm1_weight, w->norm1_bias, y, cores);
        product(rows, 3 * width, width, y, w->in_proj, 0, mixed);
        for (int n = 0; n < n_streams; n++) append(s, streams + n, index, cosines, sines, mixed);
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(cores) if (cores > 1 && rows * width >= SHARED_FROM)
        for (int n = 0; n < n_streams; n++)
            for (int head = 0; head < s->heads; head++)
                for (long from = 0; from < most; from += BLOCK) {
                    long steps = streams[n].steps, to = from + BLOCK < steps ? from + BLOCK : steps;
                    float *room = scores + omp_get_thread_num() * BLOCK * seen;
                    if (from < to) attend(s, streams + n, index, head, from, to, mixed, y, room);
                }
        product(rows, width, width, y, w->out_proj, 1, x);
        normalise(rows, width, x, w->norm2_weight, w->norm2_bias, y, cores);
        product(rows, s->hidden, width, y, w->up, 0, mixed);
        gelu(rows, s->hidden, mixed, cores);
        product(rows, width, s->hidden, mixed, w->down, 1, x);
    }
    if (s->output_proj) product(rows, s->output, width, x, s->output_proj, 0, out);
    else memcpy(out, x, sizeof(float) * rows * width);
    free(x);
    return 1;
}
