/* Products of float32 rows with packed weights, y (M, N) = x (M, K) @ W (N, K)^T: W is affine as mx.quantize packs it,
 * with 2, 3, 4, 5, 6 or 8 bits and groups that share a scale and a bias, or bfloat16.
 *
 * Weights are read once and multiplied as float32. A few consecutive values are a pack, which lies in one word; a block
 * is a pack for each lane of a vector. Value i of all lanes is moved into the highest bits of a mantissa: with the
 * exponent of one, q becomes 1 + q / 2^bits without a conversion. The rows of x are laid out once in the same order.
 * A row's result does not depend, to the last bit, on how many others there are (up to MOST_ROWS).
 * With more rows, tiles of W are unpacked and go to the BLAS. */

#include "packed_products.h"
#include "vectors.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };
enum { MOST_ROWS = 32, BFLOAT16_BITS = 16 };
/* Rows of a tile, and columns of several tiles. */
enum { TALL = 4, BATCH = 8 };
/* Unpacked at once for the BLAS: some 4 MB. */
enum { TILE = 1 << 20 };
/* Packed weights from this many bytes on, times half of the rows, are shared by all cores. */
static const long SHARED_FROM = 1L << 20;
/* For each core, so that none waits for another one that begins late. */
enum { PIECES = 8 };
/* Bytes that are fetched before they are needed. */
enum { AHEAD = 512 };

typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint32_t loose_words __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
typedef int32_t order __attribute__((vector_size(4 * LANES)));

void cblas_sgemm(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

/* What all columns share: the rows of x by blocks and by lanes, and the sums of their groups. */
typedef struct {
    const packed_product *p;
    float *x, *sums;
    long blocks, groups, row_bytes;
    long x_stride, group_stride; /* with room for whole blocks, and for loads of whole vectors */
    int shift;                   /* 2 to its power is a group */
    order spread;                /* which of a block's groups a lane belongs to */
} task;

/* Compilers tend to unpack all values before they use the first, and run out of registers. */
#ifdef __AVX__
#define IN_ORDER(next, last) __asm__("" : "+v"(next), "+v"(last))
#else
#define IN_ORDER(next, last)
#endif

#define INLINE static inline __attribute__((always_inline))

/* ------------------------------------------------------------------------------------------------ the format */

/* Values in a pack, and its bytes. */
INLINE int values(int bits) { return bits == 6 ? 4 : bits == 3 || bits == 5 ? 8 : 32 / bits; }
INLINE int pack_bytes(int bits) { return values(bits) * bits / 8; }

typedef struct {
    words low, high; /* `high` begins a byte later; only packs of five bytes need it */
} packs;

INLINE packs load_packs(const int bits, const uint8_t *from) {
    packs made = {0};
    if (pack_bytes(bits) == 4) {
        made.low = *(const loose_words *)from;
        return made;
    }
    uint32_t low[LANES], high[LANES];
#pragma GCC unroll 16
    for (int lane = 0; lane < LANES; lane++) {
        memcpy(low + lane, from + lane * pack_bytes(bits), 4);
        if (bits == 5) memcpy(high + lane, from + lane * 5 + 1, 4);
    }
    memcpy(&made.low, low, sizeof low);
    if (bits == 5) memcpy(&made.high, high, sizeof high);
    return made;
}

/* 1 and the bits of `mask` as its mantissa. Compilers tend to make a copy of the exponent first, for each value. */
INLINE lanes with_mantissa(words moved, uint32_t mask) {
    words kept = (words){0} + mask, exponent = (words){0} + 0x3f800000u;
#ifdef __AVX512F__
    __asm__("vpternlogd $0xea, %2, %1, %0" : "+v"(moved) : "v"(kept), "v"(exponent));
    return (lanes)moved;
#else
    return (lanes)(moved & kept | exponent);
#endif
}

/* Value i of each pack: 1 + q / 2^bits, or a bfloat16 as it is. */
INLINE lanes value(const int bits, const int i, packs from) {
    if (bits == BFLOAT16_BITS) {
        if (i == 0) return (lanes)(from.low << 16);
        return (lanes)(from.low & 0xffff0000u);
    }
    int late = bits == 5 && i >= 6, down = bits * i - 8 * late - (23 - bits);
    words pack = late ? from.high : from.low, moved = down > 0 ? pack >> down : pack << -down;
    return with_mantissa(moved, ((1u << bits) - 1) << (23 - bits));
}

INLINE float number_at(const number type, const void *from, long index) {
    union {
        uint32_t bits;
        float value;
    } made;
    if (type == FLOAT32) return ((const float *)from)[index];
    uint32_t half = ((const uint16_t *)from)[index];
    if (type == BFLOAT16) {
        made.bits = half << 16;
        return made.value;
    }
    made.bits = (half & 0x7fff) << 13; /* the exponent of float16 counts from 112 less */
    made.value *= 0x1p112f;
    made.bits |= (half & 0x8000) << 16;
    return made.value;
}

/* Scales and biases of a column for 1 + q / 2^bits instead of q. */
INLINE void restate(const number type, const task *t, long column, float *scales, float *biases) {
    const packed_product *p = t->p;
    long first = column * t->groups;
    float unit = 1 << p->bits;
    for (long g = 0; g < t->groups; g++) {
        float scale = number_at(type, p->scales, first + g) * unit;
        scales[g] = scale, biases[g] = number_at(type, p->biases, first + g) - scale;
    }
}

static void restated(const task *t, long column, float *scales, float *biases) {
    if (t->p->scale_type == BFLOAT16) restate(BFLOAT16, t, column, scales, biases);
    else if (t->p->scale_type == FLOAT16) restate(FLOAT16, t, column, scales, biases);
    else restate(FLOAT32, t, column, scales, biases);
}

/* Blocks of a row that can be read in place; a word may reach behind a pack of three bytes. */
INLINE long whole_blocks(const int bits, const task *t) {
    return (t->row_bytes - (pack_bytes(bits) == 3)) / (LANES * pack_bytes(bits));
}

INLINE void copy_rest(const int bits, const task *t, const uint8_t *row, long whole, uint8_t *rest) {
    long from = whole * LANES * pack_bytes(bits);
    memset(rest, 0, 8 * LANES);
    memcpy(rest, row + from, t->row_bytes - from);
}

INLINE lanes spread(const task *t, const float *of_groups, const int block_values, long block) {
    return __builtin_shuffle(load(of_groups + (block * block_values >> t->shift)), t->spread);
}

/* ------------------------------------------------------------------------------------------------ few rows */

/* Products of `rows` rows with `columns` columns of y; `bits`, `rows` and `columns` are constants. `room` holds the
 * scales and the biases of a column. */
INLINE void tile(const int bits, const int rows, const int columns, const task *t, long row, long column,
                 long gap, float *room) {
    enum { MOST = 8 };
    const int n = values(bits), block_values = LANES * n, block_bytes = LANES * pack_bytes(bits);
    const uint8_t *w[MOST];
    uint8_t rest[MOST][8 * LANES];
    long whole = whole_blocks(bits, t);
    for (int c = 0; c < columns; c++) {
        w[c] = t->p->w + (column + c * gap) * t->row_bytes;
        if (whole < t->blocks) copy_rest(bits, t, w[c], whole, rest[c]);
    }
    const float *x = t->x + row * t->x_stride;
    lanes sums[MOST] = {0};
    for (long block = 0; block < t->blocks; block++) {
        packs from[MOST];
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++) {
            const uint8_t *at = block < whole ? w[c] + block * block_bytes : rest[c];
            __builtin_prefetch(at + AHEAD);
            from[c] = load_packs(bits, at);
        }
        lanes parts[MOST] = {0};
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) {
            lanes numbers[MOST];
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                numbers[r] = load(x + r * t->x_stride + block * block_values + i * LANES);
                IN_REGISTER(numbers[r]);
            }
#pragma GCC unroll 8
            for (int c = 0; c < columns; c++) {
                lanes weights = value(bits, i, from[c]);
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++) {
                    lanes more = weights * numbers[r];
                    if (bits == BFLOAT16_BITS) sums[r * columns + c] += more;
                    else parts[r * columns + c] += more;
                }
                if (bits != BFLOAT16_BITS) IN_ORDER(from[c].low, parts[(rows - 1) * columns + c]);
            }
        }
        if (bits != BFLOAT16_BITS)
#pragma GCC unroll 8
            for (int c = 0; c < columns; c++) {
                lanes scale = spread(t, room + 2 * c * t->group_stride, block_values, block);
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++) sums[r * columns + c] += parts[r * columns + c] * scale;
            }
    }
    if (bits != BFLOAT16_BITS)
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) {
                const float *of_groups = t->sums + (row + r) * t->group_stride;
                const float *biases = room + (2 * c + 1) * t->group_stride;
                for (long g = 0; g < t->groups; g += LANES)
                    sums[r * columns + c] += load(biases + g) * load(of_groups + g);
            }
    eight made = totals(sums);
    for (int r = 0; r < rows && row + r < t->p->rows; r++)
        for (int c = 0; c < columns; c++)
            t->p->y[(row + r) * t->p->columns + column + c * gap] = made[r * columns + c];
}

/* All rows of `columns` columns so far apart, `tall` rows and `wide` columns at a time. */
INLINE void all_rows(const int bits, const int tall, const int wide, int columns, const task *t, long column, long gap,
                     float *room) {
    if (bits != BFLOAT16_BITS)
        for (int c = 0; c < columns; c++)
            restated(t, column + c * gap, room + 2 * c * t->group_stride, room + (2 * c + 1) * t->group_stride);
    for (long row = 0; row < t->p->rows; row += tall)
        for (int c = 0; c < columns; c += wide)
            tile(bits, tall, wide, t, row, column + c * gap, gap, room + 2 * c * t->group_stride);
}

/* Columns from..to of y. Those of a batch are far apart: so each of them is a stream, which a processor reads ahead. */
INLINE void few_rows(const int bits, const task *t, long from, long to, float *room) {
    long gap = (to - from) / BATCH;
    for (long i = 0; i < gap; i++)
        if (t->p->rows == 1) all_rows(bits, 1, BATCH, BATCH, t, from + i, gap, room);
        else all_rows(bits, TALL, 2, BATCH, t, from + i, gap, room);
    for (from += gap * BATCH; from < to; from++) all_rows(bits, 1, 1, 1, t, from, 0, room);
}

/* ------------------------------------------------------------------------------------------------ many rows */

/* A column as float32, in the order of x. */
INLINE void unpack(const int bits, const task *t, long column, float *room, float *to) {
    const int n = values(bits), block_values = LANES * n;
    const uint8_t *w = t->p->w + column * t->row_bytes;
    uint8_t rest[8 * LANES];
    long whole = whole_blocks(bits, t);
    if (whole < t->blocks) copy_rest(bits, t, w, whole, rest);
    if (bits != BFLOAT16_BITS) restated(t, column, room, room + t->group_stride);
    for (long block = 0; block < t->blocks; block++) {
        packs from = load_packs(bits, block < whole ? w + block * LANES * pack_bytes(bits) : rest);
        lanes scale = {0}, bias = {0};
        if (bits != BFLOAT16_BITS) {
            scale = spread(t, room, block_values, block);
            bias = spread(t, room + t->group_stride, block_values, block);
        }
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) {
            lanes weights = value(bits, i, from);
            *(lanes *)(to + block * block_values + i * LANES) =
                bits == BFLOAT16_BITS ? weights : weights * scale + bias;
        }
    }
}

/* ------------------------------------------------------------------------------------- one function for each width */

typedef struct {
    void (*few_rows)(const task *, long from, long to, float *room);
    void (*unpack)(const task *, long column, float *room, float *to);
} width_functions;

#define FUNCTIONS(bits)                                                                                            \
    static void few_rows_##bits(const task *t, long from, long to, float *room) {                                  \
        few_rows(bits, t, from, to, room);                                                                         \
    }                                                                                                              \
    static void unpack_##bits(const task *t, long column, float *room, float *to) {                                \
        unpack(bits, t, column, room, to);                                                                         \
    }
FUNCTIONS(2) FUNCTIONS(3) FUNCTIONS(4) FUNCTIONS(5) FUNCTIONS(6) FUNCTIONS(8) FUNCTIONS(16)

static const width_functions of_bits[BFLOAT16_BITS + 1] = {
    [2] = {few_rows_2, unpack_2}, [3] = {few_rows_3, unpack_3}, [4] = {few_rows_4, unpack_4},
    [5] = {few_rows_5, unpack_5}, [6] = {few_rows_6, unpack_6}, [8] = {few_rows_8, unpack_8},
    [16] = {few_rows_16, unpack_16},
};

/* ------------------------------------------------------------------------------------------------------------ */

/* Lay out row `row` of x by blocks and lanes, and sum its groups. */
static void lay_out(const task *t, long row) {
    const packed_product *p = t->p;
    const int n = values(p->bits);
    const float *from = p->x + row * p->width;
    float *to = t->x + row * t->x_stride, *sums = t->sums + row * t->group_stride;
    long block_values = LANES * n;
    for (long block = 0; block < t->blocks; block++, to += block_values, from += block_values) {
        long left = (p->width - block * block_values) / n;
        for (int i = 0; i < n; i++)
            for (int lane = 0; lane < LANES; lane++) to[i * LANES + lane] = lane < left ? from[lane * n + i] : 0;
    }
    if (p->bits == BFLOAT16_BITS) return;
    from = p->x + row * p->width;
    memset(sums, 0, sizeof(float) * t->group_stride);
    for (long g = 0; g < t->groups; g++)
        for (int i = 0; i < p->group; i++) sums[g] += from[g * p->group + i];
}

/* Columns of y, a tile at a time: unpacked by all cores, and multiplied by the BLAS. */
static void by_tiles(const task *t, int cores, float *room, long room_size, float *unpacked) {
    const packed_product *p = t->p;
    long step = TILE / t->x_stride + 1;
    for (long from = 0; from < p->columns; from += step) {
        long size = from + step < p->columns ? step : p->columns - from;
#pragma omp parallel for num_threads(cores)
        for (long column = 0; column < size; column++)
            of_bits[p->bits].unpack(t, from + column, room + omp_get_thread_num() * room_size,
                                    unpacked + column * t->x_stride);
        cblas_sgemm(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, p->rows, size, t->x_stride, 1, t->x, t->x_stride, unpacked,
                    t->x_stride, 0, p->y + from, p->columns);
    }
}

int moss_tts_packed_product(const packed_product *p) {
    if (p->bits < 2 || p->bits > BFLOAT16_BITS || of_bits[p->bits].few_rows == NULL) return 0;
    const long n = values(p->bits), block_values = LANES * n;
    task t = {.p = p, .blocks = (p->width + block_values - 1) / block_values, .row_bytes = p->width * p->bits / 8};
    t.groups = p->bits == BFLOAT16_BITS ? 0 : p->width / p->group;
    t.x_stride = t.blocks * block_values;
    t.group_stride = (t.groups + 2 * LANES) / LANES * LANES;
    t.shift = __builtin_ctz(p->group | 1 << 30);
    for (int lane = 0; lane < LANES; lane++) t.spread[lane] = t.groups ? lane * n / p->group : 0;
    int many = p->rows > MOST_ROWS, shared = t.row_bytes * p->columns * (p->rows + 1) / 2 >= SHARED_FROM;
    int cores = shared ? omp_get_max_threads() : 1;
    long room_size = 2 * BATCH * t.group_stride;
    long rows = p->rows == 1 ? 1 : (p->rows + TALL - 1) / TALL * TALL, x_size = rows * t.x_stride;
    long size = x_size + rows * t.group_stride + cores * room_size + (many ? TILE + t.x_stride : 0);
    float *memory = NULL;
    if (posix_memalign((void **)&memory, 64, sizeof(float) * size) != 0) return 0;
    t.x = memory, t.sums = t.x + x_size;
    float *room = t.sums + rows * t.group_stride, *unpacked = room + cores * room_size;
    memset(room, 0, sizeof(float) * cores * room_size);
    for (long row = 0; row < p->rows; row++) lay_out(&t, row);
    memset(t.x + p->rows * t.x_stride, 0, sizeof(float) * (rows - p->rows) * t.x_stride);
    if (many) by_tiles(&t, cores, room, room_size, unpacked);
    else if (cores == 1) of_bits[p->bits].few_rows(&t, 0, p->columns, room);
    else {
        long pieces = PIECES * cores, share = (p->columns + BATCH * pieces - 1) / (BATCH * pieces) * BATCH;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cores)
        for (long piece = 0; piece < pieces; piece++) {
            long from = piece * share, to = from + share < p->columns ? from + share : p->columns;
            of_bits[p->bits].few_rows(&t, from, to, room + omp_get_thread_num() * room_size);
        }
    }
    free(memory);
    return 1;
}
