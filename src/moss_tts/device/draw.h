/* How one channel of a request is sampled; see ChannelSampling of sampling.py. */
typedef struct {
    float temperature; /* 0 is greedy */
    float top_p;       /* infinite if it is off */
    float penalty;
    int top_k; /* more than there are if it is off */
} setting;

/* Draw one of the `count` tokens with these logits, which it changes. `seen` are those that the penalty weakens, or
 * NULL; `order` has room for `count` numbers. */
int moss_tts_draw(const setting *s, int keeps_ties, int count, float *logits, const unsigned char *seen, float uniform,
                  int *order);
