/* GPT-2 blocks over one row at a time, and the team of threads that computes them. */

#include <sched.h>
#include <stdatomic.h>

/* ------------------------------------------------------------------------------------------------- the team */

/* Threads that compute a frame together. Between two products they meet: a wait of microseconds, which a thread that
 * sleeps does not wake up from in time. */
typedef struct {
    atomic_int cores, waiting, meetings;
} team;

/* Wait for all others. A core that another program took gets its thread back only if those that wait let go of theirs. */
static inline void meet(team *t) {
    if (t->cores == 1) return;
    int now = atomic_load(&t->meetings);
    if (atomic_fetch_add(&t->waiting, 1) + 1 == t->cores) {
        atomic_store(&t->waiting, 0);
        atomic_store(&t->meetings, now + 1);
        return;
    }
    for (int turns = 0; atomic_load(&t->meetings) == now; turns++)
        if (turns > 4096) sched_yield();
}

/* Where a thread's part of `all` begins: parts are multiples of `unit`. */
static inline long part_of(const team *t, int thread, long all, long unit) {
    long from = (all / unit * thread + t->cores - 1) / t->cores * unit;
    return thread == t->cores || from > all ? all : from;
}

/* ---------------------------------------------------------------------------------------------- the decoder */

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

/* Columns from..to of y (M, N) += x (M, K) @ w (N, K)^T, by one thread (thin_products.c). */
void moss_tts_columns(int rows, int columns, int width, const float *x, const float *w, float *y, long from, long to);
