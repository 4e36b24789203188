/* What the networks in C have in common: memory, and what is computed row by row. All arrays are float32. */

#include <math.h>

/* Floats that a cache line holds. */
enum { LINE = 16 };

/* The next so many floats of a buffer; all begin at a cache line, so that sums do not depend on what lies before. */
static inline float *taken(float **next, long count) {
    float *mine = *next;
    *next += (count + LINE - 1) / LINE * LINE;
    return mine;
}

/* log2(e): exponentials are computed as powers of two. */
static const float OCTAVES = 1.44269504f;

/* y is x without its mean, over its deviation, times the weight, plus the bias. */
static inline void normalise_row(int width, float epsilon, const float *x, const float *weight, const float *bias,
                                 float *y) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < width; i++) sum += x[i];
    float mean = sum / width;
#pragma omp simd reduction(+ : squares)
    for (int i = 0; i < width; i++) squares += (x[i] - mean) * (x[i] - mean);
    float scale = 1 / sqrtf(squares / width + epsilon);
#pragma omp simd
    for (int i = 0; i < width; i++) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

/* Turn pairs of neighbours of all heads. */
static inline void turn(int heads, int half, const float *cosines, const float *sines, float *x) {
    for (int head = 0; head < heads; head++, x += 2 * half)
#pragma omp simd
        for (int i = 0; i < half; i++) {
            float even = x[2 * i], odd = x[2 * i + 1];
            x[2 * i] = even * cosines[i] - odd * sines[i];
            x[2 * i + 1] = odd * cosines[i] + even * sines[i];
        }
}

/* 2 to the power of x, 2^-63 if x is less. Exact to 2e-7, as kernels.py (_weigh_by_octaves) has it. */
static inline float power(float x) {
    float octaves = x < -63.0f ? -63.0f : x;
    float whole = (octaves + 12582912.0f) - 12582912.0f, rest = octaves - whole;
    float power = 1.52527338e-05f * rest + 0.000154035304f;
    power = ((power * rest + 0.00133335581f) * rest + 0.00961812911f) * rest + 0.0555041087f;
    power = ((power * rest + 0.240226507f) * rest + 0.693147181f) * rest + 1;
    union {
        int bits;
        float value;
    } scale = {((int)whole + 127) << 23};
    return power * scale.value;
}

/* 2 to the power of x[i] - largest, in place; their sum. */
static inline float powers(long size, float *x, float largest) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < size; i++) sum += x[i] = power(x[i] - largest);
    return sum;
}

/* x times the sigmoid of once * x + cubed * x^3. */
static inline float by_sigmoid(float once, float cubed, float x) {
    float octaves = -OCTAVES * (once * x + cubed * x * x * x);
    return x / (1 + power(octaves > 63 ? 63 : octaves));
}

/* Its factors for GPT-2's approximation of GELU. */
static const float GELU_ONCE = 1.595769122f, GELU_CUBED = 0.0713548162726f;
