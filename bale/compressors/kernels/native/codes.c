/* Codes of quantizers, in the order of their sizes and back. */
#include "common.h"

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
        for (int64_t i = start; i < stop; i++) sizes[i] = table[ordered[i]];
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
