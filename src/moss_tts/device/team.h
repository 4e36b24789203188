/* A team of threads that computes one call together, and the products of each. */

#include <sched.h>
#include <stdatomic.h>

/* Between two products the threads meet: a wait of microseconds, which a thread that sleeps does not wake up from in
 * time. */
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

/* Columns from..to of y (M, N) += x (M, K) @ w (N, K)^T, by one thread (thin_products.c). */
void moss_tts_columns(int rows, int columns, int width, const float *x, const float *w, float *y, long from, long to);
