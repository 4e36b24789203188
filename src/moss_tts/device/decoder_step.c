/* Further rows of requests through GPT-2 blocks: the same computation as GPT2Decoder of backbone.py with MLX.
 *
 * A frame of one request reads its weights and does little else, so threads share the columns of each matrix and meet
 * four times a block. What is short, all threads compute for themselves. */

#include "decoder.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "arithmetic.h"

/* ------------------------------------------------------------------------------------------------- room */

int moss_tts_take_room(room *r, const decoder *d, int rows, long slots, int cores) {
    long line = (slots + LINE - 1) / LINE * LINE, normed = (long)cores * rows * d->width;
    long all = normed + (long)rows * (4 * d->width + d->hidden + d->width / d->heads) + cores * line + 8 * LINE;
    float *next = aligned_alloc(64, (sizeof(float) * all + 63) / 64 * 64);
    if (next == NULL) return 0;
    r->slots = line;
    r->normed = taken(&next, normed);
    r->mixed = taken(&next, 3L * rows * d->width);
    r->attended = taken(&next, (long)rows * d->width);
    r->hidden = taken(&next, (long)rows * d->hidden);
    r->angles = taken(&next, (long)rows * (d->width / d->heads));
    r->scores = taken(&next, cores * line);
    return 1;
}

void moss_tts_leave_room(room *r) { free(r->normed); }

/* ---------------------------------------------------------------------------------------------- attention */

/* Cosines and sines of a row's position. */
static void find_angles(const decoder *d, const row *at, float *angles) {
    int half = d->width / d->heads / 2;
    for (int i = 0; i < half; i++) {
        float angle = (float)(at->slot - at->first) * d->rates[i];
        angles[i] = cosf(angle), angles[half + i] = sinf(angle);
    }
}

/* Turn a row's query and key of one head, and let its key and value join the context. */
static void join(const decoder *d, const context *c, const row *at, int head, const float *angles, float *mixed) {
    int size = d->width / d->heads, half = size / 2;
    float *query = mixed + head * size, *key = query + d->width, *value = key + d->width;
    long slot = at->place * c->place + head * c->head + at->slot * size;
    turn(1, half, angles, angles + half, query);
    turn(1, half, angles, angles + half, key);
    memcpy(c->keys + slot, key, sizeof(float) * size);
    memcpy(c->values + slot, value, sizeof(float) * size);
}

/* What one head of a row attends to, into y (d). */
static void attend(const context *c, const row *at, int head, int size, const float *query, float *y, float *scores) {
    long first = at->place * c->place + head * c->head + at->first * size, seen = at->slot - at->first + 1;
    const float *keys = c->keys + first, *values = c->values + first;
    float scale = OCTAVES / sqrtf(size), largest = -INFINITY;
    for (long slot = 0; slot < seen; slot++) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < size; i++) sum += query[i] * keys[slot * size + i];
        scores[slot] = sum * scale;
        if (scores[slot] > largest) largest = scores[slot];
    }
    float share = 1 / powers(seen, scores, largest);
    memset(y, 0, sizeof(float) * size);
    for (long slot = 0; slot < seen; slot++)
#pragma omp simd
        for (int i = 0; i < size; i++) y[i] += scores[slot] * values[slot * size + i];
    for (int i = 0; i < size; i++) y[i] *= share;
}

/* ------------------------------------------------------------------------------------------------- blocks */

/* x times its sigmoid, or that of GPT-2's GELU, at columns from..to of each row. */
static void activate(const decoder *d, int rows, float *hidden, long from, long to) {
    float once = d->gelu ? GELU_ONCE : 1, cubed = d->gelu ? GELU_CUBED : 0;
    for (int row = 0; row < rows; row++) {
        float *x = hidden + (long)row * d->hidden;
#pragma omp simd
        for (long i = from; i < to; i++) x[i] = by_sigmoid(once, cubed, x[i]);
    }
}

/* Columns from..to of y (rows, N) = keep * y + bias + x (rows, K) @ w (N, K)^T. */
static void add_product(int rows, int columns, int width, const float *x, const float *w, const float *bias, int keep,
                        float *y, long from, long to) {
    for (int row = 0; row < rows; row++)
        for (long i = from; i < to; i++) {
            float *at = y + (long)row * columns + i;
            *at = keep ? *at + bias[i] : bias[i];
        }
    moss_tts_columns(rows, columns, width, x, w, y, from, to);
}

/* Attention of one block, of the heads of one thread. */
static void attend_all(const decoder *d, const context *c, const block *b, int rows, const row *at, const float *normed,
                       const room *r, team *t, int thread) {
    int size = d->width / d->heads, wide = 3 * d->width;
    long first = part_of(t, thread, d->heads, 1), last = part_of(t, thread + 1, d->heads, 1);
    for (int part = 0; part < 3; part++)
        add_product(rows, wide, d->width, normed, b->attention, b->attention_bias, 0, r->mixed,
                    part * d->width + first * size, part * d->width + last * size);
    for (long head = first; head < last; head++) {
        for (int i = 0; i < rows; i++) join(d, c, at + i, head, r->angles + i * size, r->mixed + (long)i * wide);
        for (int i = 0; i < rows; i++)
            attend(c, at + i, head, size, r->mixed + (long)i * wide + head * size,
                   r->attended + (long)i * d->width + head * size, r->scores + thread * r->slots);
    }
}

float *moss_tts_decode(const decoder *d, const context *layers, int rows, const row *at, float *x, const room *r,
                       team *t, int thread) {
    int width = d->width;
    float *normed = r->normed + (long)thread * rows * width;
    long from = part_of(t, thread, width, LINE), to = part_of(t, thread + 1, width, LINE);
    long first = part_of(t, thread, d->hidden, LINE), last = part_of(t, thread + 1, d->hidden, LINE);
    if (thread == 0)
        for (int i = 0; i < rows; i++) find_angles(d, at + i, r->angles + i * (width / d->heads));
    meet(t);
    for (int layer = 0; layer < d->n_blocks; layer++) {
        const block *b = d->blocks + layer;
        for (int i = 0; i < rows; i++)
            normalise_row(width, d->epsilon, x + i * width, b->ln_1_weight, b->ln_1_bias, normed + i * width);
        attend_all(d, layers + layer, b, rows, at, normed, r, t, thread);
        meet(t);
        add_product(rows, width, width, r->attended, b->projection, b->projection_bias, 1, x, from, to);
        meet(t);
        for (int i = 0; i < rows; i++)
            normalise_row(width, d->epsilon, x + i * width, b->ln_2_weight, b->ln_2_bias, normed + i * width);
        add_product(rows, d->hidden, width, normed, b->in, b->in_bias, 0, r->hidden, first, last);
        activate(d, rows, r->hidden, first, last);
        meet(t);
        add_product(rows, width, d->hidden, r->hidden, b->out, b->out_bias, 1, x, from, to);
        meet(t);
    }
    for (int i = 0; i < rows; i++)
        normalise_row(width, d->epsilon, x + i * width, d->norm_weight, d->norm_bias, normed + i * width);
    return normed;
}

/* One further row of each request, x (rows, D), in place. Returns 0 if there is no memory; then nothing was done. */
int moss_tts_decoder_step(const decoder *d, const context *layers, int rows, const row *at, float *x, int cores) {
    long slots = 0;
    for (int i = 0; i < rows; i++) slots = at[i].slot - at[i].first >= slots ? at[i].slot - at[i].first + 1 : slots;
    room r;
    if (!moss_tts_take_room(&r, d, rows, slots, cores)) return 0;
    team t = {0};
#pragma omp parallel num_threads(cores)
    {
        t.cores = omp_get_num_threads();
        float *y = moss_tts_decode(d, layers, rows, at, x, &r, &t, omp_get_thread_num());
        meet(&t);
        if (omp_get_thread_num() == 0) memcpy(x, y, sizeof(float) * rows * d->width);
    }
    moss_tts_leave_room(&r);
    return 1;
}
