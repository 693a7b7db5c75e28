/* Entropy coding and bit fields. */
#include "common.h"

#include <stdlib.h>

/* A table entry by which a token is taken into a state without a division: quotients of numbers below 2^32 are the
 * upper halves of their products with the reciprocal, 2^64 / frequency rounded up; a frequency of 1, whose reciprocal
 * has no room, has quotients that are one too small, which `bias` makes good. */
typedef struct {
    uint64_t reciprocal;
    uint32_t frequency, bias;
} Entry;

ALWAYS Entry entry_of(uint64_t entry, int bits) {
    uint64_t frequency = entry >> 16, before = entry & 0xFFFF;
    if (frequency < 2) return (Entry){UINT64_MAX, 1, (uint32_t)(before + (1u << bits) - 1)};
    return (Entry){UINT64_MAX / frequency + 1, (uint32_t)frequency, (uint32_t)before};
}

ALWAYS uint64_t push_by(uint64_t x, int64_t *at, uint16_t *words, const Entry *entry, int bits) {
    uint64_t frequency = entry->frequency, roomy = below(x, frequency << (32 - bits));
    words[*at] = (uint16_t)x;
    *at -= 1 + (int64_t)roomy;
    x = choose(roomy, x, x >> 16);
    uint64_t quotient = (uint64_t)((unsigned __int128)x * entry->reciprocal >> 64);
    return x + entry->bias + quotient * (((uint64_t)1 << bits) - frequency);
}

ALWAYS int64_t encode(const uint8_t *tokens, int64_t n, const uint8_t *contexts, bool many, const Entry *table,
                      int64_t width, int bits, uint16_t *words, int64_t room, uint64_t *states) {
    int64_t at = room - 1, whole = n - n % LANES;
    uint64_t x[LANES];
    for (int lane = 0; lane < LANES; lane++) x[lane] = LOW;
#define STEP(i, lane) x[lane] = push_by(x[lane], &at, words, table + contexts[many ? i : 0] * width + tokens[i], bits);
    for (int64_t i = n - 1; i >= whole; i--) STEP(i, i - whole)
    for (int64_t i = whole - LANES; i >= 0; i -= LANES) {
        STEP(i + 7, 7) STEP(i + 6, 6) STEP(i + 5, 5) STEP(i + 4, 4) STEP(i + 3, 3) STEP(i + 2, 2) STEP(i + 1, 1) STEP(i, 0)
    }
#undef STEP
    memcpy(states, x, sizeof x);
    return at + 1;
}

int64_t k_rans_encode(const uint8_t *tokens, int64_t n, const uint8_t *contexts, int64_t m, const uint64_t *entries,
                      int64_t many, int64_t width, int64_t bits, uint16_t *words, int64_t room, uint64_t *states,
                      int64_t lanes) {
    (void)lanes;
    Entry *table = malloc((size_t)(many * width) * sizeof(Entry));
    if (!table) return -1;
    for (int64_t i = 0; i < many * width; i++) table[i] = entry_of(entries[i], (int)bits);
#define ENCODE(many, bits) encode(tokens, n, contexts, many, table, width, bits, words, room, states)
    int64_t at = bits == 12 && m > 1   ? ENCODE(true, 12)
                 : bits == 13 && m > 1 ? ENCODE(true, 13)
                 : bits == 12          ? ENCODE(false, 12)
                 : bits == 13          ? ENCODE(false, 13)
                                       : ENCODE(m > 1, (int)bits);
#undef ENCODE
    free(table);
    return at;
}

ALWAYS bool decode(const uint16_t *words, int64_t end, uint64_t *states, const uint8_t *contexts, bool many,
                   const uint8_t *slots, const uint64_t *entries, int64_t width, int bits, uint8_t *tokens,
                   int64_t n) {
    int64_t at = 0, whole = n - n % LANES;
    uint64_t mask = ((uint64_t)1 << bits) - 1, x[LANES];
    memcpy(x, states, sizeof x);
#define STEP(i, lane)                                                               \
    {                                                                               \
        uint64_t context = contexts[many ? i : 0], slot = x[lane] & mask; \
        uint8_t token = slots[(context << bits) + slot];                            \
        tokens[i] = token;                                                          \
        x[lane] = pull(x[lane], &at, words, entries[context * (uint64_t)width + token], slot, bits); \
    }
    for (int64_t start = 0; start < whole; start += BLOCK) {
        if (at > end) return false;
        int64_t stop = least_of(start + BLOCK, whole);
        for (int64_t i = start; i < stop; i += LANES) {
            STEP(i, 0) STEP(i + 1, 1) STEP(i + 2, 2) STEP(i + 3, 3) STEP(i + 4, 4) STEP(i + 5, 5) STEP(i + 6, 6) STEP(i + 7, 7)
        }
    }
    for (int64_t i = whole; i < n; i++) STEP(i, i - whole)
#undef STEP
    memcpy(states, x, sizeof x);
    return at == end && at_rest(states);
}

bool k_rans_decode(const uint16_t *words, int64_t room, int64_t end, uint64_t *states, int64_t lanes,
                   const uint8_t *contexts, int64_t m, const uint8_t *slots, int64_t many, int64_t slot_count,
                   const uint64_t *entries, int64_t many2, int64_t width, int64_t bits, uint8_t *tokens, int64_t n) {
    (void)room, (void)lanes, (void)many, (void)slot_count, (void)many2;
#define DECODE(many, bits) decode(words, end, states, contexts, many, slots, entries, width, bits, tokens, n)
    if (bits == 12) return m > 1 ? DECODE(true, 12) : DECODE(false, 12);
    if (bits == 13) return m > 1 ? DECODE(true, 13) : DECODE(false, 13);
    return DECODE(m > 1, (int)bits);
#undef DECODE
}

ALWAYS int64_t put_fields(const void *values, int bytes, int64_t n, const uint8_t *tokens, const uint64_t *bases,
                          const uint64_t *widths, uint32_t *data) {
    uint64_t held = 0, count = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        uint8_t token = tokens[i];
        held |= (word_at(values, bytes, i) - bases[token]) << count;
        count += widths[token];
        data[at] = (uint32_t)held;
        uint64_t full = count >> 5; /* 0 or 1, for fewer than 32 bits were held */
        at += (int64_t)full;
        held >>= full << 5;
        count &= 31;
    }
    if (count) data[at++] = (uint32_t)held;
    return at;
}

int64_t k_put_fields__u8(const uint8_t *values, int64_t n, const uint8_t *tokens, int64_t n2, const uint64_t *bases,
                         int64_t b, const uint64_t *widths, int64_t w, uint32_t *data, int64_t room) {
    (void)n2, (void)b, (void)w, (void)room;
    return put_fields(values, 1, n, tokens, bases, widths, data);
}

int64_t k_put_fields__u16(const uint16_t *values, int64_t n, const uint8_t *tokens, int64_t n2, const uint64_t *bases,
                          int64_t b, const uint64_t *widths, int64_t w, uint32_t *data, int64_t room) {
    (void)n2, (void)b, (void)w, (void)room;
    return put_fields(values, 2, n, tokens, bases, widths, data);
}

int64_t k_put_fields__u32(const uint32_t *values, int64_t n, const uint8_t *tokens, int64_t n2, const uint64_t *bases,
                          int64_t b, const uint64_t *widths, int64_t w, uint32_t *data, int64_t room) {
    (void)n2, (void)b, (void)w, (void)room;
    return put_fields(values, 4, n, tokens, bases, widths, data);
}

ALWAYS bool get_fields(const uint32_t *data, int64_t end, const uint8_t *tokens, int64_t n, const uint64_t *bases,
                       const uint64_t *widths, void *values, int bytes) {
    uint64_t held = data[0], count = 32;
    int64_t at = 1;
    for (int64_t start = 0; start < n; start += BLOCK) {
        if (at > end + 1) return false;
        int64_t stop = least_of(start + BLOCK, n);
        for (int64_t i = start; i < stop; i++) {
            uint8_t token = tokens[i];
            uint64_t width = widths[token];
            set_word(values, bytes, i, bases[token] + (held & (((uint64_t)1 << width) - 1)));
            held >>= width;
            count -= width;
            uint64_t empty = count < 32;
            held |= (data[at] * empty) << count;
            count += empty << 5;
            at += (int64_t)empty;
        }
    }
    uint64_t used = ((uint64_t)at << 5) - count; /* bits */
    return (used + 31) >> 5 == (uint64_t)end;
}

bool k_get_fields__u8(const uint32_t *data, int64_t room, int64_t end, const uint8_t *tokens, int64_t n,
                      const uint64_t *bases, int64_t b, const uint64_t *widths, int64_t w, uint8_t *values,
                      int64_t n2) {
    (void)room, (void)b, (void)w, (void)n2;
    return get_fields(data, end, tokens, n, bases, widths, values, 1);
}

bool k_get_fields__u16(const uint32_t *data, int64_t room, int64_t end, const uint8_t *tokens, int64_t n,
                       const uint64_t *bases, int64_t b, const uint64_t *widths, int64_t w, uint16_t *values,
                       int64_t n2) {
    (void)room, (void)b, (void)w, (void)n2;
    return get_fields(data, end, tokens, n, bases, widths, values, 2);
}

bool k_get_fields__u32(const uint32_t *data, int64_t room, int64_t end, const uint8_t *tokens, int64_t n,
                       const uint64_t *bases, int64_t b, const uint64_t *widths, int64_t w, uint32_t *values,
                       int64_t n2) {
    (void)room, (void)b, (void)w, (void)n2;
    return get_fields(data, end, tokens, n, bases, widths, values, 4);
}
