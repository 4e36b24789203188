/* packed_products.c, for those that call it. */

#include <stdint.h>

typedef enum { FLOAT32, BFLOAT16, FLOAT16 } number;

typedef struct {
    long rows, width, columns;
    int bits, group;   /* of 16 bits: W is bfloat16, without scales and biases */
    number scale_type; /* of scales and biases */
    const float *x;    /* (M, K) */
    const uint8_t *w;  /* (N, K), packed */
    const void *scales, *biases; /* (N, K / group) */
    float *y;          /* (M, N) */
} packed_product;

/* Compute y. Returns 0 if there is no memory or no such width; then nothing was done. */
int moss_tts_packed_product(const packed_product *p);
