/* Values of groups as codes, and back: one division, or one multiplication, of float32 for each. */
#include "common.h"

#define FEW 16 /* bounds up to which comparing with each is quicker than a table */

typedef float floats __attribute__((vector_size(32)));
typedef int32_t ints __attribute__((vector_size(32)));
#define STEP 8
#define SIDE 4 /* registers side by side for long groups */

ALWAYS floats chosen(ints mask, floats yes, floats no) { return (floats)(((ints)yes & mask) | ((ints)no & ~mask)); }

/* The range of a group with as many registers as are given: NaN where an element is not finite. */
ALWAYS void widen(const float *part, int64_t count, int many, float *low, float *high) {
    int64_t i = 0;
    floats least[SIDE], most[SIDE];
    ints size[SIDE];
    for (int j = 0; j < many; j++) least[j] = *low + (floats){0}, most[j] = *high + (floats){0}, size[j] = (ints){0};
    for (; i + many * STEP <= count; i += many * STEP)
        for (int j = 0; j < many; j++) {
            floats value;
            memcpy(&value, part + i + j * STEP, sizeof value);
            ints bits = (ints)value & 0x7FFFFFFF, more = bits > size[j];
            least[j] = chosen(value < least[j], value, least[j]);
            most[j] = chosen(value > most[j], value, most[j]);
            size[j] = (bits & more) | (size[j] & ~more);
        }
    float ends[2][STEP * SIDE];
    int32_t sizes[STEP * SIDE], largest = 0;
    memcpy(ends[0], least, sizeof(floats) * (size_t)many);
    memcpy(ends[1], most, sizeof(floats) * (size_t)many);
    memcpy(sizes, size, sizeof(ints) * (size_t)many);
    for (int j = 0; j < many * STEP; j++) {
        *low = ends[0][j] < *low ? ends[0][j] : *low;
        *high = ends[1][j] > *high ? ends[1][j] : *high;
        largest = sizes[j] > largest ? sizes[j] : largest;
    }
    for (; i < count; i++) {
        int32_t bits;
        memcpy(&bits, part + i, 4);
        bits &= 0x7FFFFFFF;
        *low = part[i] < *low ? part[i] : *low;
        *high = part[i] > *high ? part[i] : *high;
        largest = bits > largest ? bits : largest;
    }
    if (largest >= 0x7F800000) *low = *high = __builtin_nanf("");
}

WIDE void k_widen_ranges(const float *values, int64_t n, int64_t width, float *low, int64_t groups, float *high,
                         int64_t groups2) {
    (void)groups2;
    for (int64_t group = 0; group < groups; group++) {
        const float *part = values + group * width;
        int64_t count = least_of(width, n - group * width);
        if (count >= 256)
            widen(part, count, SIDE, low + group, high + group);
        else
            widen(part, count, 1, low + group, high + group);
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

#define PIECE 1024

/* Of each number, how many bounds are not above it: by comparing it with each of a few. */
ALWAYS void find_few(const float *numbers, const float *bounds, int64_t count, uint8_t *found) {
    int32_t all[PIECE];
    for (int64_t i = 0; i < PIECE; i += STEP) {
        floats number;
        ints below = {0};
        memcpy(&number, numbers + i, sizeof number);
        for (int64_t bound = 0; bound < count; bound++) below -= number >= bounds[bound];
        memcpy(all + i, &below, sizeof below);
    }
    for (int64_t i = 0; i < PIECE; i++) found[i] = (uint8_t)all[i];
}

/* The same by the upper half of its bits and one comparison; of sizes, whose bits are in their order, as whole numbers. */
ALWAYS void find_by_halves(const float *numbers, const float *bounds, const uint8_t *starts, bool sizes, uint8_t *found) {
    uint32_t limits[256];
    memcpy(limits, bounds, sizeof limits);
    for (int64_t i = 0; i < PIECE; i++) {
        uint32_t bits;
        memcpy(&bits, numbers + i, 4);
        uint32_t least = starts[bits >> 16];
        found[i] = (uint8_t)(least + (sizes ? bits >= limits[least] : numbers[i] >= bounds[least]));
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
    (void)groups, (void)n2;
    float padded[256], sizes[PIECE], steps[PIECE];
    uint8_t found[PIECE], signs[PIECE], codes_of[256] = {0};
    for (int64_t i = 0; i < 256; i++) padded[i] = i < count ? bounds[i] : __builtin_inff();
    memcpy(codes_of, table, (size_t)levels);
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
        else if (halves && sign)
            find_by_halves(sizes, padded, starts, true, found);
        else if (halves)
            find_by_halves(sizes, padded, starts, false, found);
        else
            find_among_many(sizes, padded, found);
        look_up(found, length, codes_of, levels <= 16, found);
        for (int64_t i = 0; i < length; i++) codes[start + i] = found[i] | signs[i];
    }
}

#ifdef HAS_AVX2
/* Codes below 16, as many of them as fill registers; returns how many. */
__attribute__((target("avx2"))) static int64_t decode_few(const uint8_t *codes, int64_t n, const float *table,
                                                          float step, float *values) {
    __m256 first = _mm256_loadu_ps(table), second = _mm256_loadu_ps(table + 8), scale = _mm256_set1_ps(step);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i code = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(codes + i)));
        __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28)); /* the fourth bit on top */
        __m256 level = _mm256_blendv_ps(_mm256_permutevar8x32_ps(first, code), _mm256_permutevar8x32_ps(second, code), upper);
        _mm256_storeu_ps(values + i, _mm256_mul_ps(level, scale));
    }
    return i;
}
#endif

WIDE void k_decode_levels(const uint8_t *codes, int64_t n, int64_t width, const float *scale, int64_t groups,
                          const float *table, int64_t levels, float *values, int64_t n2) {
    (void)levels, (void)n2;
    uint8_t any = 0;
    for (int64_t i = 0; i < n; i++) any |= codes[i];
#ifdef HAS_AVX2
    bool few = any < 16 && has_avx2();
#endif
    for (int64_t group = 0; group < groups; group++) {
        const uint8_t *part = codes + group * width;
        float *out = values + group * width, step = scale[group];
        int64_t count = least_of(width, n - group * width), i = 0;
#ifdef HAS_AVX2
        if (few) i = decode_few(part, count, table, step, out);
#endif
#pragma GCC unroll 8
        for (; i < count; i++) out[i] = table[part[i]] * step;
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
