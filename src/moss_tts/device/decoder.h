/* GPT-2 blocks over one row at a time. */

#include "team.h"

typedef struct {
    const float *ln_1_weight, *ln_1_bias, *attention, *attention_bias, *projection, *projection_bias;
    const float *ln_2_weight, *ln_2_bias, *in, *in_bias, *out, *out_bias;
} block;

typedef struct {
    const block *blocks;
    const float *norm_weight, *norm_bias;
    const float *rates; /* radians of each pair of a head from one position to the next */
    int n_blocks, width, heads, hidden, gelu;
    float epsilon;
} decoder;

/* Keys and values of a layer, (places, heads, slots, d), as floats from one place or head to the next. */
typedef struct {
    float *keys, *values;
    long place, head;
} context;

/* A row: its request's place, and the slots that it sees, of which the last is its own. */
typedef struct {
    long place, first, slot;
} row;

/* What a pass over some rows writes. */
typedef struct {
    float *normed; /* (cores, rows, D): every thread has its own, the last of which is the result */
    float *mixed;  /* (rows, 3 D): queries, keys and values */
    float *attended, *hidden;
    float *angles; /* (rows, 2, d / 2) */
    float *scores; /* (cores, slots) */
    long slots;
} room;

/* Room for so many rows, which see at most so many slots; 0 if there is no memory. */
int moss_tts_take_room(room *r, const decoder *d, int rows, long slots, int cores);
void moss_tts_leave_room(room *r);

/* Rows x (rows, D) through all blocks; all threads of a team call it. The result is each thread's own `normed`. */
float *moss_tts_decode(const decoder *d, const context *layers, int rows, const row *at, float *x, const room *r,
                       team *t, int thread);
