/* A transformer stage of the codec over the next steps of many streams: the same computation as in
 * codec/transformer.py and codec/window.py with MLX.
 *
 * The N steps of all streams lie one after the other; D is the width of the stage. All arrays are float32, with
 * contiguous rows. A call of one stream does little between two products, so threads meet instead of being called: they
 * share the columns of products, the rows of norms, and the heads and queries of attention. */

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "arithmetic.h"
#include "team.h"

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111 };
/* Queries that look at the same steps: few, so that little of what is computed is masked, and as many as products of
 * a few rows are for. */
enum { BLOCK = 16 };
/* Rows of a product that a cache keeps beside the weights, and columns that a thread takes at a time. */
enum { ROWS = 96, UNIT = 8 };
/* Multiplications of a layer that are worth another thread. */
static const long SHARED_FROM = 1L << 20;

void cblas_sgemm(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

typedef struct {
    const float *norm1_weight, *norm1_bias, *in_proj, *out_proj, *norm2_weight, *norm2_bias, *up, *down;
} layer;

typedef struct {
    const layer *layers;
    const float *input_proj, *output_proj; /* NULL if there is none */
    int n_layers, input, width, output, heads, hidden, window;
} stage;

/* The new steps of a stream and its past: of each layer keys (D, slots), then values (slots, D). Keys of neighbouring
 * steps are neighbours, because a product with vectors of them needs no sums across a vector. */
typedef struct {
    float *past;
    long slots;
    long used;    /* slots before the first free one */
    long carried; /* the last of them, which may be seen */
    long first;   /* of N: where its steps are */
    long steps;
} stream;

/* One call: what its threads read and write. */
typedef struct {
    const stage *s;
    const stream *streams;
    int n_streams;
    const float *cosines, *sines, *in;
    float *out;
    long rows, most, seen;         /* N; most steps of a stream; most steps that a query may look at */
    float *x, *y, *mixed, *scores; /* (N, D), (N, D), (N, 3 D or hidden), (cores, BLOCK, seen) */
    atomic_long block;             /* the next block of queries that no thread has taken */
    team team;
} call;

static long larger(long left, long right) { return left > right ? left : right; }

/* ------------------------------------------------------------------------------------------------- row by row */

/* The rows of y of one thread. */
static void normalise(call *c, int thread, const float *weight, const float *bias) {
    int width = c->s->width;
    long last = part_of(&c->team, thread + 1, c->rows, 1);
    for (long row = part_of(&c->team, thread, c->rows, 1); row < last; row++)
        normalise_row(width, 1e-5f, c->x + row * width, weight, bias, c->y + row * width);
}

/* x times the normal distribution function, by the ratio of polynomials of transformer.py (gelu_by_ratio). */
static inline float gelu_of(float x) {
    float low = x < -5.6f ? -5.6f : x, bounded = low > 5.6f ? 5.6f : low, s = bounded * bounded;
    float above = 2.21451917e-08f * s + 6.35650533e-06f, below = 1.18020638e-06f * s + 7.51016568e-05f;
    above = (((above * s + 0.000173850309f) * s + 0.00470725686f) * s + 0.0343760929f) * s + 0.398942222f;
    below = (((below * s + 0.00191297607f) * s + 0.0289400752f) * s + 0.2528338f) * s + 1;
    return x * (0.5f + bounded * (above / below));
}

/* x (N, depth) @ w (columns, depth)^T, added to y or in its place: the columns of one thread, and their GELU. */
static void product(call *c, int thread, int columns, int depth, const float *x, const float *w, int keep, int gelu,
                    float *y) {
    long from = part_of(&c->team, thread, columns, UNIT), to = part_of(&c->team, thread + 1, columns, UNIT);
    for (long first = 0; first < c->rows; first += ROWS) {
        long last = first + ROWS < c->rows ? first + ROWS : c->rows;
        for (long row = first; row < last && !keep; row++)
            memset(y + row * columns + from, 0, sizeof(float) * (to - from));
        moss_tts_columns(last - first, columns, depth, x + first * depth, w, y + first * columns, from, to);
        for (long row = first; row < last && gelu; row++)
#pragma omp simd
            for (long i = row * columns + from; i < row * columns + to; i++) y[i] = gelu_of(y[i]);
    }
}

/* ------------------------------------------------------------------------------------------------- attention */

/* Rotate queries and keys, which lie with values in `mixed` (N, 3, D), of the rows of one thread; keys and values join
 * the past of their streams. */
static void append(call *c, int thread, int index) {
    int width = c->s->width, half = width / c->s->heads / 2;
    long from = part_of(&c->team, thread, c->rows, 1), to = part_of(&c->team, thread + 1, c->rows, 1);
    float scale = OCTAVES / sqrtf(2 * half); /* scores are powers of two */
    for (const stream *at = c->streams; at < c->streams + c->n_streams; at++) {
        float *keys = at->past + 2L * index * at->slots * width + at->used;
        float *values = at->past + ((2L * index + 1) * at->slots + at->used) * width;
        long last = larger(0, to - at->first) < at->steps ? larger(0, to - at->first) : at->steps;
        for (long step = larger(0, from - at->first); step < last; step++) {
            long row = at->first + step;
            float *mixed = c->mixed + row * 3 * width;
            turn(2 * c->s->heads, half, c->cosines + row * half, c->sines + row * half, mixed);
            for (int i = 0; i < width; i++) keys[i * at->slots + step] = mixed[width + i];
            memcpy(values + step * width, mixed + 2 * width, sizeof(float) * width);
            for (int i = 0; i < width; i++) mixed[i] *= scale;
        }
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
    const float *keys = at->past + (2L * index * width + head * size) * at->slots + first;
    const float *values = at->past + ((2L * index + 1) * at->slots + first) * width + head * size;
    cblas_sgemm(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, to - from, seen, size, 1, queries, 3 * width, keys, at->slots, 0,
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

/* Attention of the blocks of queries that this thread takes. */
static void attend_all(call *c, int thread, int index) {
    long blocks = (c->most + BLOCK - 1) / BLOCK, heads = c->s->heads, all = c->n_streams * heads * blocks;
    for (long task = atomic_fetch_add(&c->block, 1); task < all; task = atomic_fetch_add(&c->block, 1)) {
        const stream *at = c->streams + task / (heads * blocks);
        long from = task % blocks * BLOCK, to = from + BLOCK < at->steps ? from + BLOCK : at->steps;
        if (from < to)
            attend(c->s, at, index, task / blocks % heads, from, to, c->mixed, c->y, c->scores + thread * BLOCK * c->seen);
    }
}

/* ------------------------------------------------------------------------------------------------------ the call */

static void run_layer(call *c, int thread, int index) {
    const stage *s = c->s;
    const layer *w = s->layers + index;
    normalise(c, thread, w->norm1_weight, w->norm1_bias);
    meet(&c->team);
    product(c, thread, 3 * s->width, s->width, c->y, w->in_proj, 0, 0, c->mixed);
    if (thread == 0) atomic_store(&c->block, 0);
    meet(&c->team);
    append(c, thread, index);
    meet(&c->team);
    attend_all(c, thread, index);
    meet(&c->team);
    product(c, thread, s->width, s->width, c->y, w->out_proj, 1, 0, c->x);
    meet(&c->team);
    normalise(c, thread, w->norm2_weight, w->norm2_bias);
    meet(&c->team);
    product(c, thread, s->hidden, s->width, c->y, w->up, 0, 1, c->mixed);
    meet(&c->team);
    product(c, thread, s->width, s->hidden, c->mixed, w->down, 1, 0, c->x);
    meet(&c->team);
}

static void run(call *c, int thread) {
    const stage *s = c->s;
    if (s->input_proj) product(c, thread, s->width, s->input, c->in, s->input_proj, 0, 0, c->x);
    else if (thread == 0) memcpy(c->x, c->in, sizeof(float) * c->rows * s->width);
    meet(&c->team);
    for (int index = 0; index < s->n_layers; index++) run_layer(c, thread, index);
    if (s->output_proj) product(c, thread, s->output, s->width, c->x, s->output_proj, 0, 0, c->out);
    else if (thread == 0) memcpy(c->out, c->x, sizeof(float) * c->rows * s->width);
}

/* Find out how much there is to do, and take the memory for it; 0 if there is none. */
static int prepare(call *c, int cores) {
    const stage *s = c->s;
    for (const stream *at = c->streams; at < c->streams + c->n_streams; at++) {
        c->rows += at->steps;
        c->most = larger(c->most, at->steps);
        c->seen = larger(c->seen, at->carried + at->steps);
    }
    if (c->seen > s->window + BLOCK) c->seen = s->window + BLOCK;
    long narrow = c->rows * s->width, wide = c->rows * larger(3 * s->width, s->hidden), scores = cores * BLOCK * c->seen;
    float *next = aligned_alloc(64, (sizeof(float) * (2 * narrow + wide + scores + 4 * LINE) + 63) / 64 * 64);
    if (next == NULL) return 0;
    c->x = taken(&next, narrow), c->y = taken(&next, narrow), c->mixed = taken(&next, wide);
    c->scores = taken(&next, scores);
    return 1;
}

/* Steps (N, input) -> (N, output), with the angles of each pair of a head (N, D / heads / 2), on some cores.
 * Returns 0 if there is no memory; then nothing was done. */
int moss_tts_codec_stage(const stage *s, int n_streams, const stream *streams, const float *cosines,
                         const float *sines, const float *in, float *out, int cores) {
    call c = {.s = s, .streams = streams, .n_streams = n_streams, .cosines = cosines, .sines = sines, .in = in, .out = out};
    if (!prepare(&c, cores)) return 0;
    long worth = c.rows * s->width * (4L * s->width + 2L * s->hidden) / SHARED_FROM;
    if (worth < cores) cores = worth > 1 ? worth : 1;
#pragma omp parallel num_threads(cores) if (cores > 1)
    {
#pragma omp single
        c.team.cores = omp_get_num_threads();
        run(&c, omp_get_thread_num());
    }
    free(c.x);
    return 1;
}
