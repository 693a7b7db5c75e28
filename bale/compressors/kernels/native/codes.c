/* Codes of quantizers, in the order of their sizes and back. */
#include "common.h"

#ifdef HAS_AVX2
#define PARTS 16 /* of a table, each as long as a register looks up at once */

/* What a table has for numbers, of up to four bits if `few`: by their lower bits in each part, then by each upper bit
 * one half of the parts that are left. */
__attribute__((target("avx2"))) static void look_up_wide(const uint8_t *numbers, int64_t n, const uint8_t *table,
                                                         bool few, uint8_t *found) {
    __m256i low = _mm256_set1_epi8(15), parts[PARTS];
    for (int part = 0; part < PARTS; part++)
        parts[part] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(table + 16 * part)));
    for (int64_t i = 0; i < n; i += 32) {
        __m256i number = _mm256_loadu_si256((const __m256i *)(numbers + i)), lower = _mm256_and_si256(number, low);
        __m256i left[PARTS];
        for (int part = 0; part < (few ? 1 : PARTS); part++) left[part] = _mm256_shuffle_epi8(parts[part], lower);
        for (int bit = 4, half = PARTS / 2; !few && bit < 8; bit++, half /= 2) {
            __m256i upper = _mm256_slli_epi16(number, 7 - bit); /* each byte's bit on top of it */
            for (int part = 0; part < half; part++)
                left[part] = _mm256_blendv_epi8(left[2 * part], left[2 * part + 1], upper);
        }
        _mm256_storeu_si256((__m256i *)(found + i), left[0]);
    }
}
#endif

void look_up(const uint8_t *numbers, int64_t n, const uint8_t *table, bool few, uint8_t *found) {
    int64_t whole = 0;
#ifdef HAS_AVX2
    if (has_avx2()) look_up_wide(numbers, whole = n - n % 32, table, few, found);
#endif
    (void)few;
    for (int64_t i = whole; i < n; i++) found[i] = table[numbers[i]];
}

WIDE void k_order_codes(const uint8_t *codes, int64_t n, int64_t bits, const uint8_t *table, int64_t t,
                        uint8_t *ordered, int64_t n2, uint8_t *sizes, int64_t n3, uint8_t *signs, int64_t n4) {
    (void)t, (void)n2, (void)n3, (void)n4;
    uint8_t mask = (uint8_t)((1 << bits) - 1), half = (uint8_t)(1 << (bits - 1));
    for (int64_t start = 0; start < n; start += BLOCK) {
        int64_t stop = least_of(start + BLOCK, n);
        for (int64_t i = start; i < stop; i++) {
            uint8_t code = codes[i], negative = code & half ? 1 : 0;
            uint8_t size = (uint8_t)((code ^ (uint8_t)-negative) + negative);
            uint8_t number = (uint8_t)((uint8_t)(size << 1) | negative) & mask;
            ordered[i] = number;
            signs[i] = number > 1 ? (uint8_t)(1 + 2 * (number & 1)) : 0;
        }
        look_up(ordered + start, stop - start, table, bits <= 4, sizes + start);
    }
}

WIDE bool k_codes_of(const uint8_t *ordered, int64_t n, int64_t bits, uint8_t *codes, int64_t n2) {
    (void)n2;
    uint8_t mask = (uint8_t)((1 << bits) - 1), half = (uint8_t)(1 << (bits - 1)), beyond = 0;
    for (int64_t i = 0; i < n; i++) {
        uint8_t number = ordered[i], negative = number & 1, size = number >> 1;
        uint8_t code = (uint8_t)((size ^ (uint8_t)-negative) + negative);
        code |= number == 1 ? half : 0;
        beyond |= number & (uint8_t)~mask;
        codes[i] = code & mask;
    }
    return !beyond;
}

WIDE void k_turn(uint8_t *ordered, int64_t n, int64_t inner, int64_t at, const uint8_t *flags, int64_t size) {
    int64_t index = at / inner, left = inner - at % inner, i = 0;
    while (i < n) {
        int64_t run = inner == 1 ? least_of(size - index, n - i) : least_of(left, n - i);
        uint8_t *part = ordered + i;
        if (inner == 1)
            for (int64_t j = 0; j < run; j++) part[j] ^= part[j] > 1 ? flags[index + j] : 0;
        else
            for (int64_t j = 0; j < run; j++) part[j] ^= part[j] > 1 ? flags[index] : 0;
        i += run;
        left = inner;
        index = inner > 1 && index + 1 < size ? index + 1 : 0;
    }
}

WIDE int64_t k_count_repeats(const uint64_t *words, int64_t n) {
    int64_t found = 0;
    for (int64_t i = 3; i < n; i++)
        found += (words[i] == words[i - 1]) & (words[i] == words[i - 2]) & (words[i] == words[i - 3]);
    return found;
}

int64_t k_huffman_bits(const uint32_t *counts, int64_t codes, int64_t width, int64_t bits, int64_t total) {
    double weights[512];
    int64_t count = 0, mask = (1 << bits) - 1;
    for (int64_t value = 0; value < (int64_t)1 << (bits * codes); value++) {
        double weight = (double)total;
        for (int64_t number = 0; number < codes; number++)
            weight *= (double)counts[number * width + (value >> (number * bits) & mask)] / (double)total;
        if (weight > 0) {
            int64_t at = count++; /* sorted by insertion, the largest first */
            for (; at && weights[at - 1] < weight; at--) weights[at] = weights[at - 1];
            weights[at] = weight;
        }
    }
    if (count == 1) return 0;
    double length = 0;
    int64_t merged = 0, first = 256; /* weights that were merged follow each other from 256 on, ascending */
    while (count + merged - (first - 256) > 1) {
        double pair = 0;
        for (int one = 0; one < 2; one++)
            pair += count && (first == 256 + merged || weights[count - 1] <= weights[first]) ? weights[--count]
                                                                                          : weights[first++];
        weights[256 + merged++] = pair;
        length += pair;
    }
    return (int64_t)length;
}
