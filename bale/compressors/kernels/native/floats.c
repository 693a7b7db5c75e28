/* Floats of one kind as those of another. */
#include "common.h"

WIDE void k_from_bf16(const uint16_t *words, int64_t n, float *values, int64_t n2) {
    (void)n2;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)words[i] << 16;
        memcpy(values + i, &bits, 4);
    }
}

WIDE void k_to_bf16(const float *values, int64_t n, uint16_t *words, int64_t n2) {
    (void)n2;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, 4);
        uint32_t size = bits & 0x7FFFFFFF, sign = bits >> 31 << 15;
        bool lost = size > 0x7F800000; /* NaN */
        size = size < 0x7F7F0000 ? size : 0x7F7F0000; /* the largest finite one */
        size = (size + 0x7FFF + (size >> 16 & 1)) >> 16; /* half of the last kept place, less one when that is even */
        words[i] = (uint16_t)(lost ? 0x7FC0 : size | sign);
    }
}

WIDE bool k_all_finite(const float *values, int64_t n) {
    for (int64_t start = 0; start < n; start += BLOCK) {
        uint32_t most = 0;
        int64_t stop = least_of(start + BLOCK, n);
        for (int64_t i = start; i < stop; i++) {
            uint32_t bits;
            memcpy(&bits, values + i, 4);
            bits &= 0x7FFFFFFF;
            most = bits > most ? bits : most;
        }
        if (most >= 0x7F800000) return false;
    }
    return true;
}
