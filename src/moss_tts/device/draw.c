/* One draw from logits: the same as `sample` of sampling.py, for one request and channel. */

#include "draw.h"

#include <math.h>
#include <string.h>

static int best(int count, const float *logits) {
    int found = 0;
    for (int i = 1; i < count; i++)
        if (logits[i] > logits[found]) found = i;
    return found;
}

/* The `most` best of all tokens in `order`, best first, equal ones by their numbers; how many they are. */
static int rank(int count, const float *logits, int most, int *order) {
    int ranked = 0;
    for (int i = 0; i < count; i++) {
        if (ranked == most && !(logits[i] > logits[order[ranked - 1]])) continue;
        int from = 0, to = ranked;
        while (from < to) {
            int middle = (from + to) / 2;
            if (logits[i] > logits[order[middle]]) to = middle;
            else from = middle + 1;
        }
        ranked += ranked < most;
        memmove(order + from + 1, order + from, sizeof(int) * (ranked - 1 - from));
        order[from] = i;
    }
    return ranked;
}

/* Rank all that are as good as the last of the ranked as well. Equals are ranked by their numbers, so theirs are larger. */
static int with_ties(int ranked, int count, const float *logits, int *order) {
    int last = order[ranked - 1];
    for (int i = last + 1; i < count; i++)
        if (logits[i] == logits[last]) order[ranked++] = i;
    return ranked;
}

/* The rank that `uniform` falls on among candidates with these chances, of which top_p leaves the first. */
static int drawn_rank(int candidates, const float *chances, float top_p, float uniform) {
    float mass = 0, sum = 0;
    int kept = 0, drawn = 0;
    for (; kept < candidates && sum <= top_p && chances[kept] > 0; kept++) sum += chances[kept], mass = sum;
    sum = 0;
    for (; drawn < kept - 1; drawn++)
        if ((sum += chances[drawn]) > uniform * mass) break;
    return drawn;
}

int moss_tts_draw(const setting *s, int keeps_ties, int count, float *logits, const unsigned char *seen, float uniform,
                  int *order) {
    if (seen != NULL)
        for (int i = 0; i < count; i++)
            if (seen[i]) logits[i] = logits[i] > 0 ? logits[i] / s->penalty : logits[i] * s->penalty;
    if (s->temperature == 0) return best(count, logits);
    for (int i = 0; i < count; i++) logits[i] /= s->temperature;
    int candidates = rank(count, logits, s->top_k < count ? s->top_k : count, order);
    if (keeps_ties) candidates = with_ties(candidates, count, logits, order);
    float largest = logits[order[0]], chances[candidates], total = 0;
    for (int i = 0; i < candidates; i++) total += chances[i] = expf(logits[order[i]] - largest);
    for (int i = 0; i < candidates; i++) chances[i] /= total;
    return order[drawn_rank(candidates, chances, s->top_p, uniform)];
}
