/* Words as planes of their fields, and bytes of 16 values as halves of a byte. */
#include "common.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

WIDE void k_split_bfloat(const uint16_t *words, int64_t n, uint8_t *high, int64_t n2, uint8_t *low, int64_t n3) {
    (void)n2, (void)n3;
    for (int64_t i = 0; i < n; i++) {
        high[i] = (uint8_t)(words[i] >> 7);
        low[i] = (uint8_t)((words[i] & 0x7F) | (words[i] >> 8 & 0x80));
    }
}

WIDE void k_merge_bfloat(const uint8_t *high, int64_t n, const uint8_t *low, int64_t n2, uint16_t *words, int64_t n3) {
    (void)n2, (void)n3;
    for (int64_t i = 0; i < n; i++)
        words[i] = (uint16_t)((uint16_t)(high[i] << 7) | (uint16_t)(low[i] & 0x7F) | (uint16_t)((low[i] & 0x80) << 8));
}

#define HALVES(whole, half, bits)                                                                              \
    WIDE void k_split__u##whole(const uint##whole##_t *words, int64_t n, uint##half##_t *high, int64_t n2,      \
                                uint##half##_t *low, int64_t n3) {                                             \
        (void)n2, (void)n3;                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                      \
            high[i] = (uint##half##_t)(words[i] >> bits);                                                      \
            low[i] = (uint##half##_t)words[i];                                                                 \
        }                                                                                                      \
    }                                                                                                          \
    WIDE void k_merge__u##whole(const uint##half##_t *high, int64_t n, const uint##half##_t *low, int64_t n2,   \
                                uint##whole##_t *words, int64_t n3) {                                          \
        (void)n2, (void)n3;                                                                                    \
        for (int64_t i = 0; i < n; i++)                                                                        \
            words[i] = (uint##whole##_t)((uint##whole##_t)((uint##whole##_t)high[i] << bits) | low[i]);        \
    }

HALVES(16, 8, 8)
HALVES(32, 16, 16)
HALVES(64, 32, 32)

/* Halves of bytes: differences to `base`, the first one's in the lower half. Bytes that are not among the 16 values get
 * `usual`, and their places are written; returns how many there are, or `room` + 1 where there are more. */
WIDE int64_t k_fold(const uint8_t *plane, int64_t n, int64_t base, int64_t usual, uint8_t *folded, int64_t pairs,
                    uint32_t *where, int64_t room) {
    int64_t found = 0;
    for (int64_t start = 0; start < pairs; start += 256) {
        int64_t stop = least_of(start + 256, pairs), whole = least_of(stop, n / 2);
        uint8_t beyond = 0;
        for (int64_t i = start; i < whole; i++) {
            uint8_t one = (uint8_t)(plane[2 * i] - base), other = (uint8_t)(plane[2 * i + 1] - base);
            beyond |= (one | other) & 0xF0;
            folded[i] = (uint8_t)(one | other << 4);
        }
        for (int64_t i = whole; i < stop; i++) {
            uint8_t one = (uint8_t)(plane[2 * i] - base);
            beyond |= one & 0xF0;
            folded[i] = one;
        }
        if (!beyond) continue;
        for (int64_t i = 2 * start; i < least_of(2 * stop, n); i++) {
            uint8_t code = (uint8_t)(plane[i] - base);
            if (i % 2 == 0) folded[i / 2] = 0;
            if (code > 15) {
                if (found == room) return room + 1;
                where[found++] = (uint32_t)i;
                code = (uint8_t)usual;
            }
            folded[i / 2] |= (uint8_t)(i % 2 ? code << 4 : code);
        }
    }
    return found;
}

WIDE void k_unfold(const uint8_t *folded, int64_t pairs, int64_t base, uint8_t *plane, int64_t n) {
    (void)pairs;
    for (int64_t i = 0; i < n / 2; i++) {
        plane[2 * i] = (uint8_t)((folded[i] & 15) + base);
        plane[2 * i + 1] = (uint8_t)((folded[i] >> 4) + base);
    }
    if (n % 2) plane[n - 1] = (uint8_t)((folded[n / 2] & 15) + base);
}

/* Memory that is given back within a process stays with it: fresh pages cost more than what is done with them. */
void k_keep_memory(void) {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
}
