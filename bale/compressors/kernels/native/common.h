/* What the loops share. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

#ifdef __FAST_MATH__
#error "what floats round to is part of the format"
#endif

/* Functions that gain from wide registers are compiled for them too, and chosen when the library is loaded. No option
 * that changes what a float operation rounds to may be given: the bytes are the same on every machine. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__)
#define WIDE __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define WIDE
#endif
#define ALWAYS static inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_AVX2
#include <immintrin.h>
ALWAYS bool has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2");
}
#endif

#define LANES 8
#define LOW ((uint64_t)1 << 16)
#define BLOCK 4096

ALWAYS int64_t least_of(int64_t a, int64_t b) { return a < b ? a : b; }
ALWAYS int64_t most_of(int64_t a, int64_t b) { return a > b ? a : b; }

extern int64_t log2_table[4096];

/* What a table of 256 bytes has for numbers, of up to four bits if `few`; both may be one array. */
void look_up(const uint8_t *numbers, int64_t n, const uint8_t *table, bool few, uint8_t *found);

/* 2^16 times the binary logarithm of a number from 1 to 2^52, rounded down; off by 2^-11 at most. */
ALWAYS int64_t log2_of(int64_t number) {
    double value = (double)number;
    int64_t bits;
    memcpy(&bits, &value, 8);
    return (((bits >> 52) - 1023) << 16) + log2_table[(bits >> 40) & 4095];
}

/* A word of one, two or four bytes; `bytes` is a constant wherever this is called. */
ALWAYS uint32_t word_at(const void *words, int bytes, int64_t i) {
    return bytes == 1 ? ((const uint8_t *)words)[i] : bytes == 2 ? ((const uint16_t *)words)[i] : ((const uint32_t *)words)[i];
}

ALWAYS void set_word(void *words, int bytes, int64_t i, uint64_t value) {
    if (bytes == 1)
        ((uint8_t *)words)[i] = (uint8_t)value;
    else if (bytes == 2)
        ((uint16_t *)words)[i] = (uint16_t)value;
    else
        ((uint32_t *)words)[i] = (uint32_t)value;
}

/* One number or another by a mask, all ones or none: compilers make branches of choices, and these are mispredicted. */
ALWAYS uint64_t choose(uint64_t mask, uint64_t yes, uint64_t no) { return no ^ ((yes ^ no) & mask); }

/* All ones where a number below 2^63 is below another. */
ALWAYS uint64_t below(uint64_t a, uint64_t b) { return (uint64_t)((int64_t)(a - b) >> 63); }

/* Take a token with this table entry (frequency << 16 | sum of those before) into a state of rANS. */
ALWAYS uint64_t push(uint64_t x, int64_t *at, uint16_t *words, uint64_t entry, int bits) {
    uint64_t frequency = entry >> 16, full = x >= frequency << (32 - bits);
    words[*at] = (uint16_t)x;
    x = x >> (full << 4);
    *at -= (int64_t)full;
    uint64_t quotient = (uint32_t)x / (uint32_t)frequency;
    return (quotient << bits) + (x - quotient * frequency) + (entry & 0xFFFF);
}

/* Fill a state below 2^16 up with the next word. On x86-64 by hand: what compilers make of it branches, or is longer. */
ALWAYS uint64_t refill(uint64_t x, int64_t *at, const uint16_t *words) {
    uint64_t longer = x << 16 | words[*at];
#if defined(__x86_64__) && defined(__GNUC__)
    __asm__("cmpq $65536, %0\n\tcmovb %2, %0\n\tadcq $0, %1" : "+r"(x), "+r"(*at) : "r"(longer) : "cc");
    return x;
#else
    uint64_t empty = below(x, LOW);
    *at -= (int64_t)empty;
    return choose(empty, longer, x);
#endif
}

/* Take the token with this table entry, which owns the slot, out of a state; the mirror image of `push`. */
ALWAYS uint64_t pull(uint64_t x, int64_t *at, const uint16_t *words, uint64_t entry, uint64_t slot, int bits) {
    return refill((entry >> 16) * (x >> bits) + slot - (entry & 0xFFFF), at, words);
}

/* Whether all lanes are back in the state that an encoder begins with. */
ALWAYS bool at_rest(const uint64_t *states) {
    bool fits = true;
    for (int lane = 0; lane < LANES; lane++) fits &= states[lane] == LOW;
    return fits;
}
