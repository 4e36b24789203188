/* The codes of one frame, codebook by codebook: the same computation as TiedHeadsModel.sample_next_channels
 * (local_v1_5_model.py) with MLX. Q codebooks of K codes, D the width, B requests. */

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "decoder.h"
#include "draw.h"

typedef struct {
    const decoder *decoder;
    const float *codes;   /* (Q * K, D): embeddings and heads */
    const float *choices; /* (2, D): the head that says whether speech goes on */
    const float *opening; /* (D): what is read after the hidden state; NULL is nothing */
    int codebooks, size, keeps_ties;
} depth;

/* What one frame is made of and where it goes. */
typedef struct {
    int requests, codebooks;
    const float *hidden;   /* (B, D) */
    const float *uniforms; /* (B, 1 + Q) */
    const setting *text, *audio;
    const unsigned char *seen; /* (B, Q, K), or NULL */
    int *drawn;                /* (B, 1 + Q): the choice, then the codes */
} frame;

typedef struct {
    room rows;
    context *layers;
    row *at;
    float *x, *logits; /* (2 B, D), (B, K) */
    int *order;        /* (B, K) */
} workspace;

/* Draw channel `channel` (the choice is the first) for the requests of one thread. */
static void draw(const depth *m, const frame *f, int channel, workspace *w, team *t, int thread) {
    int count = channel ? m->size : 2, channels = 1 + m->codebooks;
    long last = part_of(t, thread + 1, f->requests, 1);
    for (long b = part_of(t, thread, f->requests, 1); b < last; b++) {
        const setting *s = (channel ? f->audio : f->text) + b;
        const unsigned char *seen = f->seen ? f->seen + (b * m->codebooks + channel - 1) * m->size : NULL;
        int token = moss_tts_draw(s, m->keeps_ties, count, w->logits + b * count, channel ? seen : NULL,
                                  f->uniforms[b * channels + channel], w->order + b * m->size);
        f->drawn[b * channels + channel] = token;
        if (channel)
            memcpy(w->x + b * m->decoder->width, m->codes + ((channel - 1L) * m->size + token) * m->decoder->width,
                   sizeof(float) * m->decoder->width);
    }
}

/* Logits (B, columns) of the requests' states, and a draw from them. */
static void choose(const depth *m, const frame *f, int channel, const float *state, workspace *w, team *t, int thread) {
    int columns = channel ? m->size : 2, width = m->decoder->width, unit = channel ? 16 : 1;
    const float *head = channel ? m->codes + (channel - 1L) * m->size * width : m->choices;
    long from = part_of(t, thread, columns, unit), to = part_of(t, thread + 1, columns, unit);
    for (int b = 0; b < f->requests; b++) memset(w->logits + (long)b * columns + from, 0, sizeof(float) * (to - from));
    moss_tts_columns(f->requests, columns, width, state, head, w->logits, from, to);
    meet(t);
    draw(m, f, channel, w, t, thread);
    meet(t);
}

static void make_frame(const depth *m, const frame *f, workspace *w, team *t, int thread) {
    const decoder *d = m->decoder;
    int requests = f->requests, rows = m->opening ? 2 * requests : requests;
    float *states = moss_tts_decode(d, w->layers, rows, w->at, w->x, &w->rows, t, thread);
    choose(m, f, 0, states, w, t, thread);
    states += (long)(rows - requests) * d->width;
    for (int channel = 1; channel <= f->codebooks; channel++) {
        choose(m, f, channel, states, w, t, thread);
        if (channel == f->codebooks) return;
        if (thread == 0)
            for (int b = 0; b < requests; b++) w->at[b] = (row){b, 0, channel + (m->opening != NULL)};
        states = moss_tts_decode(d, w->layers, requests, w->at, w->x, &w->rows, t, thread);
    }
}

/* Take the memory of a frame, and put the opening rows into it; 0 if there is none. */
static int open_frame(const depth *m, const frame *f, workspace *w, int cores) {
    const decoder *d = m->decoder;
    int requests = f->requests, rows = 2 * requests, slots = 1 + f->codebooks;
    long held = (long)requests * slots * d->width;
    w->layers = malloc(sizeof(context) * d->n_blocks);
    w->at = malloc(sizeof(row) * rows);
    w->x = malloc(sizeof(float) * ((long)rows * d->width + (long)requests * m->size + 2 * d->n_blocks * held));
    w->order = malloc(sizeof(int) * requests * m->size);
    if (!w->layers || !w->at || !w->x || !w->order || !moss_tts_take_room(&w->rows, d, rows, slots, cores)) return 0;
    w->logits = w->x + (long)rows * d->width;
    float *past = w->logits + (long)requests * m->size;
    for (int layer = 0; layer < d->n_blocks; layer++, past += 2 * held)
        w->layers[layer] = (context){past, past + held, held / requests, (long)slots * (d->width / d->heads)};
    memcpy(w->x, f->hidden, sizeof(float) * requests * d->width);
    for (int b = 0; b < requests; b++) {
        w->at[b] = (row){b, 0, 0}, w->at[requests + b] = (row){b, 0, 1};
        if (m->opening) memcpy(w->x + (long)(requests + b) * d->width, m->opening, sizeof(float) * d->width);
    }
    return 1;
}

/* Make one frame on some cores. Returns 0 if there is no memory; then nothing was done. */
int moss_tts_depth_frame(const depth *m, const frame *f, int cores) {
    workspace w = {0};
    int made = open_frame(m, f, &w, cores);
    if (made) {
        team t = {0};
#pragma omp parallel num_threads(cores)
        {
            t.cores = omp_get_num_threads();
            make_frame(m, f, &w, &t, omp_get_thread_num());
        }
    }
    moss_tts_leave_room(&w.rows);
    free(w.layers), free(w.at), free(w.x), free(w.order);
    return made;
}
