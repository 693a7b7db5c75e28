/* Values of groups as codes, and back: one division, or one multiplication, of float32 for each. */
#include "common.h"

#define FEW 16 /* bounds up to which comparing with each is quicker than a table */

#define SIDE 32 /* elements side by side */

WIDE void k_widen_ranges(const float *values, int64_t n, int64_t width, float *low, int64_t groups, float *high,
                         int64_t groups2) {
    (void)groups2;
    for (int64_t group = 0; group < groups; group++) {
        const float *part = values + group * width;
        int64_t count = least_of(width, n - group * width), whole = count - count % SIDE;
        float least[SIDE], most[SIDE];
        int32_t size[SIDE] = {0};
        for (int j = 0; j < SIDE; j++) least[j] = low[group], most[j] = high[group];
        for (int64_t i = 0; i < count; i += i < whole ? SIDE : 1)
            for (int64_t j = 0; j < (i < whole ? SIDE : 1); j++) {
                float value = part[i + j];
                int32_t bits;
                memcpy(&bits, &value, 4);
                bits &= 0x7FFFFFFF;
                least[j] = value < least[j] ? value : least[j];
                most[j] = value > most[j] ? value : most[j];
                size[j] = bits > size[j] ? bits : size[j];
            }
        for (int j = 1; j < SIDE; j++) {
            least[0] = least[j] < least[0] ? least[j] : least[0];
            most[0] = most[j] > most[0] ? most[j] : most[0];
            size[0] = size[j] > size[0] ? size[j] : size[0];
        }
        bool finite = size[0] < 0x7F800000;
        low[group] = finite ? least[0] : __builtin_nanf("");
        high[group] = finite ? most[0] : __builtin_nanf("");
    }
}

WIDE void k_encode_linear(const float *values, int64_t n, int64_t width, const float *scale, int64_t groups,
                          const uint8_t *zero, int64_t groups2, int64_t least, int64_t most, uint8_t *codes,
                          int64_t n2) {
    (void)groups2, (void)n2;
    const float middle = 12582912; /* 1.5 * 2^23: added to a small number it leaves whole ones, rounded to even */
    for (int64_t group = 0; group < groups; group++) {
        const float *part = values + group * width, step = scale[group];
        uint8_t *out = codes + group * width, mask = (uint8_t)most;
        float from = (float)(least - zero[group]), to = (float)(most - zero[group]);
        int64_t count = least_of(width, n - group * width);
        for (int64_t i = 0; i < count; i++) {
            float level = part[i] / step;
            level = level > from ? level : from;
            level = level < to ? level : to;
            out[i] = (uint8_t)(int32_t)(level + middle - middle) & mask;
        }
    }
}

WIDE void k_decode_linear(const uint8_t *codes, int64_t n, int64_t width, const float *scale, int64_t groups,
                          const uint8_t *zero, int64_t groups2, int64_t most, float *values, int64_t n2) {
    (void)groups2, (void)n2;
    for (int64_t group = 0; group < groups; group++) {
        const uint8_t *part = codes + group * width, below = zero[group], mask = (uint8_t)most;
        float *out = values + group * width, step = scale[group];
        int64_t count = least_of(width, n - group * width);
        for (int64_t i = 0; i < count; i++) {
            uint8_t shifted = (uint8_t)(part[i] + below) & mask;
            out[i] = (float)((int32_t)shifted - (int32_t)below) * step;
        }
    }
}

typedef float floats __attribute__((vector_size(32)));
typedef int32_t ints __attribute__((vector_size(32)));
#define STEP 8
#define PIECE 1024

/* Of each number, how many bounds are not above it: by comparing it with each of a few. */
ALWAYS void find_few(const float *numbers, const float *bounds, int64_t count, uint8_t *found) {
    for (int64_t i = 0; i < PIECE; i += STEP) {
        floats number;
        ints below = {0};
        memcpy(&number, numbers + i, sizeof number);
        for (int64_t bound = 0; bound < count; bound++) below -= number >= bounds[bound];
        for (int lane = 0; lane < STEP; lane++) found[i + lane] = (uint8_t)below[lane];
    }
}

/* The same by the upper half of its bits and one comparison. */
ALWAYS void find_by_halves(const float *numbers, const float *bounds, const uint8_t *starts, uint8_t *found) {
    for (int64_t i = 0; i < PIECE; i++) {
        uint32_t bits;
        memcpy(&bits, numbers + i, 4);
        uint32_t least = starts[bits >> 16];
        found[i] = (uint8_t)(least + (numbers[i] >= bounds[least]));
    }
}

/* The same by halving 255 bounds, the last of which are infinite. */
ALWAYS void find_among_many(const float *numbers, const float *bounds, uint8_t *found) {
    for (int64_t i = 0; i < PIECE; i++) {
        uint32_t below = 0;
        for (int bit = 7; bit >= 0; bit--)
            below |= (uint32_t)(numbers[i] >= bounds[below + (1u << bit) - 1]) << bit;
        found[i] = (uint8_t)below;
    }
}

WIDE void k_encode_levels(const float *values, int64_t n, int64_t width, const float *scale, int64_t groups,
                          const float *bounds, int64_t count, const uint8_t *starts, int64_t halves,
                          const uint8_t *table, int64_t levels, int64_t sign, uint8_t *codes, int64_t n2) {
    (void)groups, (void)levels, (void)n2;
    float padded[256], sizes[PIECE], steps[PIECE];
    uint8_t found[PIECE], signs[PIECE];
    for (int64_t i = 0; i < 256; i++) padded[i] = i < count ? bounds[i] : __builtin_inff();
    memset(sizes, 0, sizeof sizes);
    for (int64_t start = 0; start < n; start += PIECE) {
        int64_t length = least_of(PIECE, n - start);
        for (int64_t i = 0, run; i < length; i += run) { /* what of it is of one group */
            run = least_of(width - (start + i) % width, length - i);
            for (int64_t j = 0; j < run; j++) steps[i + j] = scale[(start + i) / width];
        }
        for (int64_t i = 0; i < length; i++) {
            float value = values[start + i] / steps[i];
            uint32_t bits;
            memcpy(&bits, &value, 4);
            signs[i] = (uint8_t)(bits >> 31 ? sign : 0);
            sizes[i] = sign ? __builtin_fabsf(value) : value;
        }
        if (count <= FEW)
            find_few(sizes, padded, count, found);
        else if (halves)
            find_by_halves(sizes, padded, starts, found);
        else
            find_among_many(sizes, padded, found);
        for (int64_t i = 0; i < length; i++) codes[start + i] = table[found[i]] | signs[i];
    }
}

WIDE void k_decode_levels(const uint8_t *codes, int64_t n, int64_t width, const float *scale, int64_t groups,
                          const float *table, int64_t levels, float *values, int64_t n2) {
    (void)levels, (void)n2;
    for (int64_t group = 0; group < groups; group++) {
        const uint8_t *part = codes + group * width;
        float *out = values + group * width, step = scale[group];
        int64_t count = least_of(width, n - group * width);
        for (int64_t i = 0; i < count; i++) out[i] = table[part[i]] * step;
    }
}

void k_add_to_bins(const float *values, int64_t n, int64_t *counts, int64_t bins, double *sums, int64_t bins2) {
    (void)bins, (void)bins2;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, 4);
        counts[bits >> 16]++;
        sums[bits >> 16] += values[i];
    }
}
