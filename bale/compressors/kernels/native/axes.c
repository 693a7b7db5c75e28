/* Sums over rows and columns of a tensor, contexts from them, and the cost of tokens. */
#include "common.h"

int64_t log2_table[4096];

/* The first 16 fractional bits of log2(1 + i / 4096), by squaring: whole numbers, the same on every machine. */
__attribute__((constructor)) static void make_log2_table(void) {
    for (int i = 0; i < 4096; i++) {
        uint64_t x = (uint64_t)(4096 + i) << 18; /* 1 is 2^30 */
        int64_t found = 0;
        for (int bit = 0; bit < 16; bit++) {
            x = x * x >> 30;
            int64_t two = (int64_t)(x >> 31);
            x >>= two;
            found = 2 * found + two;
        }
        log2_table[i] = found;
    }
}

int64_t k_log2(int64_t number) { return log2_of(number); }

#define TILE 64    /* sums side by side */
#define STRIP 2048 /* the same where rows are long: they are read from their beginning to their end */
#define MOST 256   /* fields below 256 that fit a sum of 16 bits */

/* Adds of some rows of `stride` words, up to MOST of them, some columns to as many sums. */
ALWAYS void add_tile(const void *words, int bytes, int64_t from, int64_t rows, int64_t stride, int64_t columns,
                     int shift, int mask, int sign, uint16_t *fields, uint16_t *signs) {
    if (!shift && mask == 255 && sign == 8) { /* bytes without a sign */
        for (int64_t row = 0; row < rows; row++)
            for (int64_t j = 0; j < columns; j++)
                fields[j] += (uint16_t)word_at(words, bytes, from + row * stride + j);
        return;
    }
    for (int64_t row = 0; row < rows; row++)
        for (int64_t j = 0; j < columns; j++) {
            uint16_t word = (uint16_t)word_at(words, bytes, from + row * stride + j);
            fields[j] += (uint16_t)(word >> shift) & (uint16_t)mask;
            signs[j] += (uint16_t)(word >> sign);
        }
}

/* The field of a run of words with the same index, plus 2^40 times their signs. */
ALWAYS int64_t sum_of_run(const void *words, int bytes, int64_t from, int64_t run, int64_t shift, int64_t mask,
                          int64_t sign) {
    int64_t both = 0, i = 0;
    while (mask < MOST && run - i >= TILE) {
        uint16_t fields[TILE] = {0}, signs[TILE] = {0};
        int64_t rows = least_of((run - i) / TILE, MOST), field = 0, negative = 0;
        add_tile(words, bytes, from + i, rows, TILE, TILE, (int)shift, (int)mask, (int)sign, fields, signs);
        for (int j = 0; j < TILE; j++) field += fields[j], negative += signs[j];
        both += field + (negative << 40);
        i += rows * TILE;
    }
    for (; i < run; i++) {
        int64_t word = word_at(words, bytes, from + i);
        both += (word >> shift & mask) + (word >> sign << 40);
    }
    return both;
}

/* Adds whole rows of words, each of which has an index of its own. */
ALWAYS void add_rows(const void *words, int bytes, int64_t from, int64_t rows, int64_t shift, int64_t mask, int64_t sign,
                     int64_t *sums, int64_t size) {
    int64_t tiled = mask < MOST ? size / TILE * TILE : 0;
    for (int64_t row = 0; row < rows && tiled; row += MOST)
        for (int64_t at = 0; at < tiled; at += STRIP) {
            uint16_t fields[STRIP] = {0}, signs[STRIP] = {0};
            int64_t columns = least_of(STRIP, tiled - at);
            add_tile(words, bytes, from + row * size + at, least_of(MOST, rows - row), size, columns, (int)shift,
                     (int)mask, (int)sign, fields, signs);
            for (int64_t j = 0; j < columns; j++) sums[at + j] += fields[j] + ((int64_t)signs[j] << 40);
        }
    for (int64_t row = 0; row < rows; row++)
        for (int64_t j = tiled; j < size; j++) {
            int64_t word = word_at(words, bytes, from + row * size + j);
            sums[j] += (word >> shift & mask) + (word >> sign << 40);
        }
}

ALWAYS void axis_sums(const void *words, int bytes, int64_t n, int64_t shift, int64_t mask, int64_t sign, int64_t inner,
                      int64_t at, int64_t *sums, int64_t size) {
    int64_t index = at / inner, left = inner - at % inner, i = 0;
    while (i < n) {
        if (inner == 1 && index == 0 && n - i >= size) {
            int64_t rows = (n - i) / size;
            add_rows(words, bytes, i, rows, shift, mask, sign, sums, size);
            i += rows * size;
            continue;
        }
        int64_t run = least_of(left, n - i);
        sums[index] += sum_of_run(words, bytes, i, run, shift, mask, sign);
        i += run;
        left = inner;
        index = index + 1 < size ? index + 1 : 0;
    }
}

WIDE void k_axis_sums__u8(const uint8_t *words, int64_t n, int64_t shift, int64_t mask, int64_t sign, int64_t inner,
                          int64_t at, int64_t *sums, int64_t size) {
    axis_sums(words, 1, n, shift, mask, sign, inner, at, sums, size);
}

WIDE void k_axis_sums__u16(const uint16_t *words, int64_t n, int64_t shift, int64_t mask, int64_t sign, int64_t inner,
                           int64_t at, int64_t *sums, int64_t size) {
    axis_sums(words, 2, n, shift, mask, sign, inner, at, sums, size);
}

WIDE void k_add_contexts(const int16_t *first, int64_t size, int64_t inner, int64_t at, const int16_t *second,
                         int64_t size2, int64_t inner2, int64_t at2, int64_t low, int64_t last, int64_t shift,
                         const int64_t *starts, int64_t runs, uint8_t *contexts, int64_t rows, int64_t length) {
    (void)rows;
    for (int64_t run = 0; run < runs; run++) {
        uint8_t *row = contexts + run * length;
        int64_t here = (at + starts[run]) % (inner * size), here2 = (at2 + starts[run]) % (inner2 * size2);
        int64_t index = here / inner, left = inner - here % inner;
        int64_t index2 = here2 / inner2, left2 = inner2 - here2 % inner2, i = 0;
        while (i < length) {
            int32_t base = first[index] - (int32_t)low, most = (int32_t)last, less = (int32_t)shift;
            int64_t count;
            if (inner2 == 1) { /* the usual case: rows and columns */
                count = least_of(least_of(left, size2 - index2), length - i);
                uint8_t *part = row + i;
                const int16_t *numbers = second + index2;
                for (int64_t j = 0; j < count; j++) {
                    int32_t sum = base + numbers[j];
                    sum = sum > 0 ? sum : 0;
                    part[j] = (uint8_t)((sum < most ? sum : most) >> less);
                }
                index2 += count;
            } else {
                count = least_of(least_of(left, left2), length - i);
                memset(row + i, (int)(least_of(most_of(base + second[index2], 0), last) >> shift), (size_t)count);
                left2 -= count;
                if (!left2) {
                    index2++;
                    left2 = inner2;
                }
            }
            i += count;
            left -= count;
            if (!left) {
                index = index + 1 < size ? index + 1 : 0;
                left = inner;
            }
            if (index2 == size2) index2 = 0;
        }
    }
}

ALWAYS void flip(void *words, int bytes, int64_t n, int64_t inner, int64_t at, const void *flags, int64_t size) {
    int64_t index = at / inner, left = inner - at % inner, i = 0;
    while (i < n) {
        int64_t run = inner == 1 ? least_of(size - index, n - i) : least_of(left, n - i);
        for (int64_t j = 0; j < run; j++) {
            uint32_t flag = word_at(flags, bytes, inner == 1 ? index + j : index);
            set_word(words, bytes, i + j, word_at(words, bytes, i + j) ^ flag);
        }
        i += run;
        left = inner;
        index = inner > 1 && index + 1 < size ? index + 1 : 0;
    }
}

WIDE void k_flip__u8(uint8_t *words, int64_t n, int64_t inner, int64_t at, const uint8_t *flags, int64_t size) {
    flip(words, 1, n, inner, at, flags, size);
}

WIDE void k_flip__u16(uint16_t *words, int64_t n, int64_t inner, int64_t at, const uint16_t *flags, int64_t size) {
    flip(words, 2, n, inner, at, flags, size);
}

#define SPARE 4096 /* counts that a second set of which stays in the nearest cache */

/* Two sets of counts take turns: to add to the one that was just written to takes time. */
ALWAYS void count_groups(const void *words, int bytes, int64_t n, const uint8_t *contexts, int64_t m, int64_t shift,
                         int64_t lowest, int64_t sign, uint32_t *counts, int64_t many, int64_t places) {
    uint64_t before = (uint64_t)lowest - 1, bit = (uint64_t)sign;
    uint32_t spare[SPARE], *sets[2] = {counts, counts};
    int64_t size = many * 2 * places;
    if (size <= SPARE) {
        memset(spare, 0, (size_t)size * sizeof *spare);
        sets[1] = spare;
    }
    for (int64_t i = 0; i < n; i++) {
        uint64_t context = contexts[m > 1 ? i : 0], word = word_at(words, bytes, i);
        uint64_t place = ((word & ~bit) >> shift) - before; /* wraps around below */
        place = place < (uint64_t)places ? place : 0;
        sets[i & 1][(2 * context + ((word & bit) != 0)) * (uint64_t)places + place]++;
    }
    for (int64_t i = 0; i < size && size <= SPARE; i++) counts[i] += spare[i];
}

void k_count_groups__u8(const uint8_t *words, int64_t n, const uint8_t *contexts, int64_t m, int64_t shift,
                        int64_t lowest, int64_t sign, uint32_t *counts, int64_t many, int64_t signs, int64_t places) {
    (void)signs;
    count_groups(words, 1, n, contexts, m, shift, lowest, sign, counts, many, places);
}

void k_count_groups__u16(const uint16_t *words, int64_t n, const uint8_t *contexts, int64_t m, int64_t shift,
                         int64_t lowest, int64_t sign, uint32_t *counts, int64_t many, int64_t signs, int64_t places) {
    (void)signs;
    count_groups(words, 2, n, contexts, m, shift, lowest, sign, counts, many, places);
}

void k_split_costs(const uint32_t *counts, int64_t contexts, int64_t signs, int64_t exponents, int64_t parts,
                   int64_t fine, int64_t entry, int64_t *costs, int64_t rows, int64_t columns) {
    (void)rows, (void)columns;
    for (int64_t row = 0; row < contexts * signs * exponents; row++) {
        const uint32_t *found = counts + row * parts;
        int64_t exponent = row % exponents, sums[64];
        for (int64_t j = 0; j < parts; j++) sums[j] = found[j];
        for (int64_t kept = fine; kept >= 0; kept--) {
            int64_t cost = 0;
            for (int64_t j = 0; j < (int64_t)1 << kept; j++)
                if (sums[j]) cost += entry + sums[j] * (((fine - kept) << 16) - log2_of(sums[j]));
            costs[exponent * (fine + 1) + kept] += cost;
            for (int64_t j = 0; j < (int64_t)1 << kept >> 1; j++) sums[j] = sums[2 * j] + sums[2 * j + 1];
        }
    }
}

ALWAYS int64_t token_cost(const void *counts, int bytes, int64_t contexts, int64_t tokens, int64_t entry) {
    int64_t cost = 0;
    for (int64_t context = 0; context < contexts; context++) {
        int64_t total = 0;
        for (int64_t at = context * tokens; at < (context + 1) * tokens; at++) {
            int64_t found = bytes == 4 ? ((const uint32_t *)counts)[at] : ((const int64_t *)counts)[at];
            if (found) {
                cost += entry - found * log2_of(found);
                total += found;
            }
        }
        if (total) cost += total * log2_of(total);
    }
    return cost;
}

int64_t k_token_cost__u32(const uint32_t *counts, int64_t contexts, int64_t tokens, int64_t entry) {
    return token_cost(counts, 4, contexts, tokens, entry);
}

int64_t k_token_cost__i64(const int64_t *counts, int64_t contexts, int64_t tokens, int64_t entry) {
    return token_cost(counts, 8, contexts, tokens, entry);
}

ALWAYS void translate(const void *values, int bytes, int64_t n, const uint8_t *table, const uint8_t *contexts,
                      int64_t m, uint8_t *tokens, uint32_t *counts, int64_t width) {
    for (int64_t i = 0; i < n; i++) {
        uint8_t token = table[word_at(values, bytes, i)];
        tokens[i] = token;
        counts[(m > 1 ? contexts[i] : contexts[0]) * width + token]++;
    }
}

void k_translate__u8(const uint8_t *values, int64_t n, const uint8_t *table, int64_t size, const uint8_t *contexts,
                     int64_t m, uint8_t *tokens, int64_t n2, uint32_t *counts, int64_t many, int64_t width) {
    (void)size, (void)n2, (void)many;
    translate(values, 1, n, table, contexts, m, tokens, counts, width);
}

void k_translate__u16(const uint16_t *values, int64_t n, const uint8_t *table, int64_t size, const uint8_t *contexts,
                      int64_t m, uint8_t *tokens, int64_t n2, uint32_t *counts, int64_t many, int64_t width) {
    (void)size, (void)n2, (void)many;
    translate(values, 2, n, table, contexts, m, tokens, counts, width);
}
