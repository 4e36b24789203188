/* Vectors of float32 for products, in GCC's extensions, which need no processor in particular. */

/* As wide as the registers. */
#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef float eight __attribute__((vector_size(32)));

/* Compilers tend to load a value again for each use, but loads are the bottleneck. */
#ifdef __AVX__
#define IN_REGISTER(value) __asm__("" : "+v"(value))
#else
#define IN_REGISTER(value)
#endif

static inline lanes load(const float *from) { return *(const lanes *)from; }

typedef int order8 __attribute__((vector_size(32)));

static inline eight halved(lanes x) {
#ifdef __AVX512F__
    union {
        lanes whole;
        eight half[2];
    } both = {x};
    return both.half[0] + both.half[1];
#else
    return x;
#endif
}

/* The sums of the lanes of eight vectors. */
static inline eight totals(const lanes *s) {
    eight pairs[4], fours[2];
    for (int i = 0; i < 4; i++) {
        eight left = halved(s[2 * i]), right = halved(s[2 * i + 1]);
        pairs[i] = __builtin_shuffle(left, right, (order8){0, 8, 2, 10, 4, 12, 6, 14}) +
                   __builtin_shuffle(left, right, (order8){1, 9, 3, 11, 5, 13, 7, 15});
    }
    for (int i = 0; i < 2; i++)
        fours[i] = __builtin_shuffle(pairs[2 * i], pairs[2 * i + 1], (order8){0, 1, 8, 9, 4, 5, 12, 13}) +
                   __builtin_shuffle(pairs[2 * i], pairs[2 * i + 1], (order8){2, 3, 10, 11, 6, 7, 14, 15});
    return __builtin_shuffle(fours[0], fours[1], (order8){0, 1, 2, 3, 8, 9, 10, 11}) +
           __builtin_shuffle(fours[0], fours[1], (order8){4, 5, 6, 7, 12, 13, 14, 15});
}
