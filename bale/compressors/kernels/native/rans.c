/* Entropy coding and bit fields. */
#include "common.h"

#include <stdlib.h>

#define WORTH 4096 /* tokens from which on tables of another kind are worth making */

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

#ifdef HAS_AVX2
/* The same, eight states at a time. `order` holds, for each set of lanes, the lanes of the set behind all others. */
static uint32_t order[256][LANES];

__attribute__((constructor)) static void make_order(void) {
    for (int set = 0; set < 256; set++) {
        int at = 0;
        for (int in = 0; in < 2; in++)
            for (int lane = 0; lane < LANES; lane++)
                if ((set >> lane & 1) == in) order[set][at++] = (uint32_t)lane;
    }
}

/* Returns how many tokens are left, which are all where words begin to run out. Quotients of numbers below 2^32 are as
 * `push_by` has them, but by reciprocals of 33 bits whose upper one is left out: 2^(32 + length) / frequency, rounded up,
 * where `length` is that of the frequency less one. */
__attribute__((target("avx2"))) static int64_t encode_wide(const uint8_t *tokens, int64_t whole,
                                                           const uint8_t *contexts, bool many, const uint64_t *table,
                                                           int64_t width, int bits, uint16_t *words, int64_t *end,
                                                           uint64_t *states) {
    int64_t i = whole - LANES, at = *end;
    uint32_t kept[LANES];
    for (int lane = 0; lane < LANES; lane++) kept[lane] = (uint32_t)states[lane];
    __m256i x = _mm256_loadu_si256((const __m256i *)kept), all = _mm256_set1_epi32(1 << bits);
    __m256i widths = _mm256_set1_epi32((int)width), rest = _mm256_set1_epi32(32 - bits);
    __m256i low = _mm256_set1_epi32(0xFFFF), odd = _mm256_set1_epi64x((int64_t)0xFFFFFFFF00000000);
    for (; i >= 0 && at >= LANES; i -= LANES) {
        __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(tokens + i)));
        if (many) {
            __m256i context = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(contexts + i)));
            index = _mm256_add_epi32(index, _mm256_mullo_epi32(context, widths));
        }
        uint32_t at_lane[LANES];
        _mm256_storeu_si256((__m256i *)at_lane, index); /* processors that gather slowly are common */
#define PAIR(lane) (long long)table[at_lane[lane]]
        __m256i outer = _mm256_set_epi64x(PAIR(5), PAIR(4), PAIR(1), PAIR(0));
        __m256i inner = _mm256_set_epi64x(PAIR(7), PAIR(6), PAIR(3), PAIR(2));
#undef PAIR
        __m256 fronts = _mm256_castsi256_ps(outer), backs = _mm256_castsi256_ps(inner);
        __m256i entry = _mm256_castps_si256(_mm256_shuffle_ps(fronts, backs, 0x88));
        __m256i reciprocal = _mm256_castps_si256(_mm256_shuffle_ps(fronts, backs, 0xDD));
        __m256i frequency = _mm256_srli_epi32(entry, 16), before = _mm256_and_si256(entry, low);
        /* The length of the frequency less one, by the exponent of a float. */
        __m256i less = _mm256_sub_epi32(frequency, _mm256_set1_epi32(1));
        __m256i exponent = _mm256_srli_epi32(_mm256_castps_si256(_mm256_cvtepi32_ps(less)), 23);
        __m256i length = _mm256_max_epi32(_mm256_sub_epi32(exponent, _mm256_set1_epi32(126)), _mm256_setzero_si256());
        __m256i roomy = _mm256_cmpgt_epi32(frequency, _mm256_srlv_epi32(x, rest));
        int full = ~_mm256_movemask_ps(_mm256_castsi256_ps(roomy)) & 255;
        __m256i lanes = _mm256_loadu_si256((const __m256i *)order[full]);
        __m256i given = _mm256_permutevar8x32_epi32(_mm256_and_si256(x, low), lanes);
        __m128i pairs = _mm_packus_epi32(_mm256_castsi256_si128(given), _mm256_extracti128_si256(given, 1));
        _mm_storeu_si128((__m128i *)(words + at - (LANES - 1)), pairs);
        at -= __builtin_popcount((unsigned)full);
        x = _mm256_blendv_epi8(_mm256_srli_epi32(x, 16), x, roomy);
        __m256i upper = _mm256_srli_epi64(x, 32);
        __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(x, reciprocal), 32);
        __m256i other = _mm256_srli_epi64(_mm256_mul_epu32(upper, _mm256_srli_epi64(reciprocal, 32)), 32);
        even = _mm256_add_epi64(even, _mm256_andnot_si256(odd, x));
        other = _mm256_add_epi64(other, upper);
        even = _mm256_srlv_epi64(even, _mm256_andnot_si256(odd, length));
        other = _mm256_srlv_epi64(other, _mm256_srli_epi64(length, 32));
        __m256i quotient = _mm256_or_si256(even, _mm256_slli_epi64(other, 32));
        __m256i added = _mm256_mullo_epi32(quotient, _mm256_sub_epi32(all, frequency));
        x = _mm256_add_epi32(_mm256_add_epi32(x, before), added);
    }
    _mm256_storeu_si256((__m256i *)kept, x);
    for (int lane = 0; lane < LANES; lane++) states[lane] = kept[lane];
    *end = at;
    return i + LANES;
}
#endif

ALWAYS int64_t encode(const uint8_t *tokens, int64_t n, const uint8_t *contexts, bool many, const uint64_t *entries,
                      int64_t tables, int64_t width, int bits, uint16_t *words, int64_t room, uint64_t *states) {
    Entry *table = malloc((size_t)(tables * width) * sizeof(Entry));
    if (!table) return -1;
    for (int64_t i = 0; i < tables * width; i++) table[i] = entry_of(entries[i], bits);
    int64_t at = room - 1, whole = n - n % LANES;
    uint64_t x[LANES];
    for (int lane = 0; lane < LANES; lane++) x[lane] = LOW;
#define STEP(i, lane) x[lane] = push_by(x[lane], &at, words, table + contexts[many ? i : 0] * width + tokens[i], bits);
    for (int64_t i = n - 1; i >= whole; i--) STEP(i, i - whole)
#ifdef HAS_AVX2
    uint64_t *narrow = has_avx2() && whole > WORTH ? malloc((size_t)(tables * width) * sizeof *narrow) : NULL;
    if (narrow) {
        for (int64_t i = 0; i < tables * width; i++) {
            uint64_t frequency = entries[i] >> 16;
            int length = frequency > 1 ? 64 - __builtin_clzll(frequency - 1) : 0;
            uint64_t reciprocal = frequency ? (uint32_t)(((uint64_t)1 << (32 + length)) / frequency + 1) : 0;
            narrow[i] = reciprocal << 32 | (uint32_t)entries[i];
        }
        whole = encode_wide(tokens, whole, contexts, many, narrow, width, bits, words, &at, x);
        free(narrow);
    }
#endif
    for (int64_t i = whole - LANES; i >= 0; i -= LANES) {
        STEP(i + 7, 7) STEP(i + 6, 6) STEP(i + 5, 5) STEP(i + 4, 4)
        STEP(i + 3, 3) STEP(i + 2, 2) STEP(i + 1, 1) STEP(i, 0)
    }
#undef STEP
    free(table);
    memcpy(states, x, sizeof x);
    return at + 1;
}

int64_t k_rans_encode(const uint8_t *tokens, int64_t n, const uint8_t *contexts, int64_t m, const uint64_t *entries,
                      int64_t many, int64_t width, int64_t bits, uint16_t *words, int64_t room, uint64_t *states,
                      int64_t lanes) {
    (void)lanes;
#define ENCODE(contexts_too, bits) \
    encode(tokens, n, contexts, contexts_too, entries, many, width, bits, words, room, states)
    if (bits == 12) return m > 1 ? ENCODE(true, 12) : ENCODE(false, 12);
    if (bits == 13) return m > 1 ? ENCODE(true, 13) : ENCODE(false, 13);
    return ENCODE(m > 1, (int)bits);
#undef ENCODE
}

#define NEAR 65536 /* slots whose moves stay near enough to be quicker than entries, which take two look-ups */

/* How each slot changes a state: by its token's frequency << 16 | its number among those of the token. */
ALWAYS uint32_t *moves_of(const uint8_t *slots, const uint64_t *entries, int64_t tables, int64_t width, int bits) {
    uint32_t *moves = malloc((size_t)(tables << bits) * sizeof *moves);
    for (int64_t i = 0; moves && i < tables << bits; i++) {
        uint64_t entry = entries[(i >> bits) * width + slots[i]], slot = (uint64_t)i & (((uint64_t)1 << bits) - 1);
        moves[i] = (uint32_t)((entry >> 16 << 16) + (uint16_t)(slot - entry));
    }
    return moves;
}

/* `moves` may be NULL. */
ALWAYS bool decode(const uint16_t *words, int64_t end, uint64_t *states, const uint8_t *contexts, bool many,
                   const uint8_t *slots, const uint64_t *entries, const uint32_t *moves, int64_t width, int bits,
                   uint8_t *tokens, int64_t n) {
    int64_t at = 0, whole = n - n % LANES;
    uint64_t mask = ((uint64_t)1 << bits) - 1, x[LANES];
    memcpy(x, states, sizeof x);
#define STEP(i, lane)                                                                                        \
    {                                                                                                        \
        uint64_t context = contexts[many ? i : 0], slot = x[lane] & mask, place = (context << bits) + slot;  \
        uint8_t token = slots[place];                                                                        \
        tokens[i] = token;                                                                                   \
        if (moves)                                                                                           \
            x[lane] = refill((moves[place] >> 16) * (x[lane] >> bits) + (uint16_t)moves[place], &at, words); \
        else                                                                                                 \
            x[lane] = pull(x[lane], &at, words, entries[context * (uint64_t)width + token], slot, bits);     \
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
    (void)room, (void)lanes, (void)slot_count, (void)many2;
    bool near = bits < 14 && many << bits <= least_of(NEAR, n / 2);
    uint32_t *moves = near ? moves_of(slots, entries, many, width, (int)bits) : NULL;
    bool found;
#define DECODE(many, moves, bits) decode(words, end, states, contexts, many, slots, entries, moves, width, bits, tokens, n)
    if (moves && bits == 12)
        found = m > 1 ? DECODE(true, moves, 12) : DECODE(false, moves, 12);
    else if (moves && bits == 13)
        found = m > 1 ? DECODE(true, moves, 13) : DECODE(false, moves, 13);
    else if (bits == 13)
        found = m > 1 ? DECODE(true, NULL, 13) : DECODE(false, NULL, 13);
    else
        found = DECODE(m > 1, NULL, (int)bits);
#undef DECODE
    free(moves);
    return found;
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
