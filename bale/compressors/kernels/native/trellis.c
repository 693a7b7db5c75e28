/* Trellis search and decoding. */
#include "common.h"

#define WIDTH 64
#define STEPS 1024
#define UNIT 128
#define EXACT 32
#define FAR 30000
#define GROUP 16 /* paths that fill a wide register of 16-bit numbers */

#ifdef __clang__
#define ROUND(value) ((int32_t)__builtin_rintf(value))
#else
#define ROUND(value) __builtin_irintf(value) /* one instruction, however old the processor is */
#endif

ALWAYS int32_t position_of(float value, float scale) { return ROUND(value * scale); }

/* Squared distances of positions to the nearest level of each of the four subsets k mod 4. */
ALWAYS void costs_of(const uint16_t *restrict positions, int shift, uint16_t *restrict costs) {
    for (int n = 0; n < GROUP; n++) {
        uint16_t u = positions[n];
        for (int subset = 0; subset < 4; subset++) {
            int16_t near = (int16_t)((u + 256 + 384 * subset) & 511);
            near = (int16_t)((near < 1 ? 1 : near) - 256);
            costs[GROUP * subset + n] = (uint16_t)((uint16_t)((uint16_t)near * (uint16_t)near) >> shift);
        }
    }
}

/* The same, multiplied with weights of up to 255. */
ALWAYS void weighted_costs_of(const uint16_t *restrict positions, const uint8_t *restrict weights, int shift,
                              uint16_t *restrict costs) {
    for (int n = 0; n < GROUP; n++) {
        uint32_t u = positions[n], weight = weights[n];
        for (uint32_t subset = 0; subset < 4; subset++) {
            int32_t near = (int32_t)((u + 256 + 384 * subset) & 511) - 256;
            costs[GROUP * subset + n] = (uint16_t)((uint32_t)(near * near) * weight >> shift);
        }
    }
}

/* One step of the paths of a group into eight states, with levels of one parity. The ways into them come from two
 * blocks of states, which begin at `x` and `y`, in the order that `turn` and `turn2` give. */
ALWAYS void enter_eight(const uint16_t *restrict x, const uint16_t *restrict y, const uint16_t *restrict costs,
                        int states, int turn, int turn2, uint16_t *restrict into, uint8_t *restrict survivors) {
    for (int n = 0; n < GROUP; n++) {
        uint16_t ones = 0;
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) {
            int parity = states == 8 ? k >> 2 : 0, one = states == 8 ? ((2 * k) & 7) ^ (parity ? turn : 0) : (2 * k) ^ turn;
            int other = one ^ turn2;
            uint16_t zero = (uint16_t)(x[GROUP * one + n] + costs[GROUP * parity + n]);
            uint16_t first = (uint16_t)(y[GROUP * other + n] + costs[GROUP * (parity + 2) + n]);
            ones |= (uint16_t)(first < zero ? 1 << k : 0);
            into[GROUP * k + n] = zero < first ? zero : first;
        }
        survivors[n] = (uint8_t)ones;
    }
}

/* One step of the paths of a group into all states; a bit of `survivors` says which of two ways each was entered by:
 * from `(2 state) ^ a`, where levels are odd, or that ^ b. */
ALWAYS void enter(const uint16_t *restrict from, const uint16_t *restrict costs, int states, int a, int b,
                  uint16_t *restrict into, uint8_t *restrict survivors) {
    if (states == 8) {
        enter_eight(from, from, costs, 8, a, b, into, survivors);
        return;
    }
    int rows = states / 8;
    for (int row = 0; row < rows / 2; row++)
        enter_eight(from + GROUP * 16 * row, from + GROUP * (16 * row ^ (b & ~15)), costs, states, 0, b & 15,
                    into + GROUP * 8 * row, survivors + GROUP * row);
    for (int row = 0; row < rows / 2; row++) {
        int at = 16 * row ^ (a & ~15);
        enter_eight(from + GROUP * at, from + GROUP * (at ^ (b & ~15)), costs + GROUP, states, a & 15, b & 15,
                    into + GROUP * (states / 2 + 8 * row), survivors + GROUP * (rows / 2 + row));
    }
}

/* Subtract from the metrics of each path the least one. */
ALWAYS void lower(uint16_t *restrict metrics, int states) {
    uint16_t least[GROUP];
    for (int n = 0; n < GROUP; n++) least[n] = metrics[n];
    for (int state = 1; state < states; state++)
        for (int n = 0; n < GROUP; n++) {
            uint16_t metric = metrics[GROUP * state + n];
            least[n] = metric < least[n] ? metric : least[n];
        }
    for (int state = 0; state < states; state++)
        for (int n = 0; n < GROUP; n++) metrics[GROUP * state + n] = (uint16_t)(metrics[GROUP * state + n] - least[n]);
}

ALWAYS void forward(const uint16_t *positions, const uint8_t *weights, int64_t rows, int paths, int states, int a,
                    int b, int shift, bool weighted, uint8_t *survivors, int32_t *ends) {
    uint16_t both[2 * 256 * GROUP], costs[4 * GROUP], *from = both, *into = both + GROUP * states;
    for (int i = 0; i < GROUP * states; i++) from[i] = i < GROUP ? 0 : FAR;
    for (int64_t i = 0; i < rows; i++) {
        if (weighted)
            weighted_costs_of(positions + i * paths, weights + i * paths, shift + 8, costs);
        else
            costs_of(positions + i * paths, shift, costs);
        enter(from, costs, states, a, b, into, survivors + i * (states / 8 * GROUP));
        uint16_t *swapped = from;
        from = into;
        into = swapped;
        if ((i & 15) == 15) lower(from, states);
    }
    for (int n = 0; n < GROUP; n++) {
        ends[n] = 0;
        for (int state = 1; state < states; state++)
            if (from[GROUP * state + n] < from[GROUP * ends[n] + n]) ends[n] = state;
    }
}

/* From the last state of each path back to the first; positions become levels. */
ALWAYS void backward(int32_t *levels, int32_t *last_row, int64_t rows, int paths, int states, int a, int b,
                     const uint8_t *survivors, const int32_t *ends) {
    int top = states == 8 ? 2 : states == 32 ? 4 : 7, mask = states - 1, width = paths < GROUP ? 8 : GROUP;
    uint32_t state[GROUP];
    for (int n = 0; n < GROUP; n++) state[n] = (uint32_t)ends[n];
    for (int64_t i = rows - 1; i >= 0; i--) {
        int32_t *row = i == rows - 1 ? last_row : levels + i * paths;
        const uint8_t *kept = survivors + i * (states / 8 * GROUP);
        for (int n = 0; n < width; n++) {
            uint32_t t = state[n], bits;
            if (states == 8)
                bits = kept[n];
            else if (states == 32)
                bits = kept[n] | (uint32_t)kept[GROUP + n] << 8 | (uint32_t)kept[2 * GROUP + n] << 16 |
                       (uint32_t)kept[3 * GROUP + n] << 24;
            else
                bits = kept[(t >> 3) * GROUP + (uint32_t)n];
            uint32_t z = bits >> (states == 256 ? t & 7 : t) & 1, parity = t >> top;
            state[n] = ((t << 1) & (uint32_t)mask) ^ ((0 - parity) & (uint32_t)a) ^ ((0 - z) & (uint32_t)b);
            int32_t subset = (int32_t)(parity + 2 * z);
            row[n] = ((row[n] - UNIT * subset + 2 * UNIT) >> 9) * 4 + subset;
        }
    }
}

/* The levels of a block: up to STEPS of each path. Zeros take the place of what the last step lacks. */
ALWAYS void search_block(const float *values, int64_t n, float scale, const uint8_t *weights, int paths, int states,
                         int a, int b, int shift, bool weighted, int32_t *levels, uint8_t *scratch) {
    int64_t rows = (n + paths - 1) / paths, rest = n - (rows - 1) * paths, full = rows * paths;
    uint16_t *positions = (uint16_t *)scratch;
    uint8_t *padded = scratch + 2 * (STEPS * WIDTH + GROUP);
    uint8_t *survivors = padded + STEPS * WIDTH + GROUP;
    int32_t ends[GROUP], last[WIDTH + GROUP] = {0};
    for (int64_t i = 0; i < n; i++) {
        levels[i] = position_of(values[i], scale);
        positions[i] = (uint16_t)levels[i];
    }
    memset(positions + n, 0, (size_t)(full - n + GROUP) * 2);
    if (weighted) {
        memcpy(padded, weights, (size_t)n);
        memset(padded + n, 0, (size_t)(full - n + GROUP));
    }
    memcpy(last, levels + full - paths, (size_t)rest * 4);
    for (int first = 0; first < paths; first += GROUP) {
        forward(positions + first, padded + first, rows, paths, states, a, b, shift, weighted, survivors, ends);
        backward(levels + first, last + first, rows, paths, states, a, b, survivors, ends);
    }
    memcpy(levels + full - paths, last, (size_t)rest * 4);
}

ALWAYS void search(const float *values, int64_t n, float scale, const uint8_t *weights, int paths, int states, int a,
                   int b, int shift, bool weighted, int32_t *levels, uint8_t *scratch) {
    int64_t block = (int64_t)paths * STEPS;
    for (int64_t at = 0; at < n; at += block)
        search_block(values + at, least_of(block, n - at), scale, weights + (weighted ? at : 0), paths, states, a, b,
                     shift, weighted, levels + at, scratch);
}

#define SEARCH(paths, states, a, b, shift, weighted)                                                        \
    search(values, n, scale, weights, paths, states, a, b, shift, weighted, levels, scratch)
#define SEARCHES(states, a, b, shift)                                                                       \
    WIDE static void search_##states(const float *values, int64_t n, float scale, const uint8_t *weights,   \
                                     bool weighted, int64_t paths, int32_t *levels, uint8_t *scratch) {     \
        if (weighted)                                                                                       \
            SEARCH((int)paths, states, a, b, shift, true);                                                  \
        else if (paths == WIDTH)                                                                            \
            SEARCH(WIDTH, states, a, b, shift, false);                                                      \
        else                                                                                                \
            SEARCH(8, states, a, b, shift, false);                                                          \
    }
SEARCHES(8, 3, 4, 3)
SEARCHES(32, 5, 8, 4)
SEARCHES(256, 77, 242, 5)

void k_trellis_search(const float *values, int64_t n, float scale, const uint8_t *weights, int64_t m, int64_t paths,
                      int64_t states, int32_t *levels, int64_t n2, uint8_t *scratch, int64_t size) {
    (void)n2, (void)size;
    if (states == 8)
        search_8(values, n, scale, weights, m > 0, paths, levels, scratch);
    else if (states == 32)
        search_32(values, n, scale, weights, m > 0, paths, levels, scratch);
    else
        search_256(values, n, scale, weights, m > 0, paths, levels, scratch);
}

ALWAYS int64_t length_of(uint64_t number) { return number ? 64 - __builtin_clzll(number) : 0; }

/* The size of a pair of levels: the pair, or -1 - pair below zero. */
ALWAYS int32_t size_of(int32_t pair) { return pair ^ pair >> 31; }

ALWAYS void survey(const float *values, int64_t n, float scale, const int32_t *levels, int64_t *lengths,
                   int64_t *counts, int64_t c, int64_t *sums) {
    int32_t sizes[BLOCK], away[BLOCK];
    for (int64_t start = 0; start < n; start += BLOCK) {
        int64_t count = least_of(BLOCK, n - start), small = 0;
        for (int64_t i = 0; i < count; i++) {
            int32_t level = levels[start + i], sign = level > 0 ? 0 : -1, size = level < 0 ? -level : level;
            sizes[i] = size;
            away[i] = ((position_of(values[start + i], scale) ^ sign) - sign) - UNIT * size;
            small += size_of(level >> 2) < EXACT;
        }
        for (int64_t i = 0; i < count; i++)
            if (sizes[i] < c) {
                counts[sizes[i]] += 1;
                sums[sizes[i]] += away[i];
            }
        lengths[0] += small;
        for (int64_t i = 0; i < count && small < count; i++) {
            int32_t size = size_of(levels[start + i] >> 2);
            if (size >= EXACT) lengths[length_of((uint64_t)size)] += 1;
        }
    }
}

WIDE void k_survey(const float *values, int64_t n, float scale, const int32_t *levels, int64_t n2, int64_t *lengths,
                   int64_t l, int64_t *counts, int64_t c, int64_t *sums, int64_t c2) {
    (void)n2, (void)l, (void)c2;
    survey(values, n, scale, levels, lengths, counts, c, sums);
}

ALWAYS void tokens_of(const int32_t *restrict levels, int64_t n, int shift, uint8_t *restrict tokens) {
    for (int64_t i = 0; i < n; i++) {
        int32_t index = levels[i] >> 1, cut = size_of(index >> 1) >> shift, halves;
        float number = (float)cut; /* exactly: twice its octave, and which half of it, are its bits from 22 on */
        memcpy(&halves, &number, 4);
        int32_t bucket = cut < EXACT ? cut : (halves >> 22) - 2 * (127 + 5) + EXACT;
        tokens[i] = (uint8_t)(2 * ((bucket ^ index >> 31) + 64) + (index & 1));
    }
}

WIDE void k_tokens_of(const int32_t *levels, int64_t n, int64_t shift, uint8_t *tokens, int64_t n2) {
    (void)n2;
    if (shift)
        tokens_of(levels, n, (int)shift, tokens);
    else
        tokens_of(levels, n, 0, tokens);
}

WIDE void k_contexts_of(const int32_t *levels, int64_t n, const uint8_t *classes, int64_t m, const uint8_t *tokens,
                        int64_t n2, uint8_t *contexts, int64_t n3, uint32_t *counts, int64_t many, int64_t width) {
    (void)n2, (void)n3, (void)many;
    for (int64_t start = 0; start < n; start += BLOCK) {
        int64_t stop = least_of(start + BLOCK, n);
        if (m > 1)
            for (int64_t i = start; i < stop; i++) contexts[i] = (uint8_t)(2 * classes[i] + (levels[i] & 1));
        else
            for (int64_t i = start; i < stop; i++) contexts[i] = (uint8_t)(2 * classes[0] + (levels[i] & 1));
        for (int64_t i = start; i < stop; i++) counts[contexts[i] * width + tokens[i]] += 1;
    }
}

/* The least of some sums, the first where several are. */
ALWAYS int64_t first_least(const int64_t *sums, int64_t count) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        if (sums[i] < sums[best]) best = i;
    return best;
}

#define SHAPES 6
#define SCALES 256
#define COARSE 8
#define STARTS (SCALES / COARSE)

WIDE int64_t k_fit_tables(const uint32_t *counts, int64_t contexts, int64_t width, const uint32_t *costs, int64_t parities,
                          int64_t tokens, int64_t s, int64_t c, const uint32_t *coarse, int64_t p2, int64_t t2,
                          int64_t s2, int64_t c2, uint8_t *shapes, int64_t n, uint8_t *scales, int64_t n2) {
    (void)parities, (void)tokens, (void)s, (void)c, (void)p2, (void)t2, (void)s2, (void)c2, (void)n, (void)n2;
    int64_t total = 0;
    for (int64_t context = 0; context < contexts; context++) {
        const uint32_t *found = counts + context * width;
        int64_t sums[SHAPES * STARTS] = {0}, least[STARTS];
        bool any = false;
        for (int64_t token = 0; token < width; token++) {
            uint64_t count = found[token];
            if (!count) continue;
            any = true;
            const uint32_t *row = coarse + ((context & 1) * width + token) * SHAPES * STARTS;
            for (int i = 0; i < SHAPES * STARTS; i++) sums[i] += (int64_t)(count * row[i]);
        }
        shapes[context] = scales[context] = 0;
        if (!any) continue;
        for (int i = 0; i < STARTS; i++) {
            least[i] = sums[i];
            for (int shape = 1; shape < SHAPES; shape++) least[i] = least_of(least[i], sums[shape * STARTS + i]);
        }
        int64_t near = first_least(least, STARTS) * COARSE, low = most_of(near - COARSE, 0), fine = near + COARSE - low;
        int64_t close[SHAPES * 2 * COARSE] = {0};
        for (int64_t token = 0; token < width; token++) {
            uint64_t count = found[token];
            if (!count) continue;
            const uint32_t *row = costs + ((context & 1) * width + token) * SHAPES * SCALES + low;
            for (int shape = 0; shape < SHAPES; shape++)
                for (int i = 0; i < fine; i++) close[shape * fine + i] += (int64_t)(count * row[shape * SCALES + i]);
        }
        int64_t best = first_least(close, SHAPES * fine);
        shapes[context] = (uint8_t)(best / fine);
        scales[context] = (uint8_t)(low + best % fine);
        total += close[best];
    }
    return total;
}

/* `merged`, if it is there, has for each state and token the value, and in its upper half the next state. */
#define DECODE(i, lane, many)                                                                                   \
    {                                                                                                           \
        uint64_t s = p[lane], context = (many ? (uint64_t)classes[i] << 1 : base) | (s & 1), slot = x[lane] & mask; \
        uint8_t token = slots[(context << bits) + slot];                                                        \
        x[lane] = pull(x[lane], &at, words, entries[context * (uint64_t)width + token], slot, bits);            \
        tokens[i] = token;                                                                                      \
        if (merged) {                                                                                           \
            uint64_t both = merged[s << 8 | token];                                                             \
            set_word(out, bytes, i, both);                                                                      \
            p[lane] = (uint8_t)(both >> 32);                                                                    \
        } else {                                                                                                \
            if (bytes == 8)                                                                                     \
                ((uint64_t *)out)[i] = ((const uint64_t *)values)[(s & 1) << 8 | token];                        \
            else                                                                                                \
                set_word(out, bytes, i, word_at(values, bytes, (int64_t)((s & 1) << 8 | token)));               \
            p[lane] = follow[s << 1 | (token & 1)];                                                             \
        }                                                                                                       \
    }

ALWAYS bool trellis_decode(const uint16_t *words, int64_t end, uint64_t *states, const uint8_t *classes, bool many,
                           const uint8_t *slots, const uint64_t *entries, int64_t width, int bits,
                           const uint8_t *follow, uint8_t *path, int64_t paths, const void *values, int bytes,
                           const uint64_t *merged, uint8_t *tokens, int64_t n, void *out) {
    int64_t at = 0, whole = n - n % LANES;
    uint64_t mask = ((uint64_t)1 << bits) - 1, base = (uint64_t)classes[0] << 1, x[LANES];
    memcpy(x, states, sizeof x);
    for (int64_t start = 0; start < whole; start += BLOCK) {
        if (at > end) return false;
        if (start % (STEPS * paths) == 0) memset(path, 0, (size_t)paths);
        int64_t stop = least_of(start + BLOCK, whole);
        for (int64_t i = start; i < stop; i += LANES) {
            uint8_t *p = path + (i & (paths - 1));
            DECODE(i, 0, many) DECODE(i + 1, 1, many) DECODE(i + 2, 2, many) DECODE(i + 3, 3, many)
            DECODE(i + 4, 4, many) DECODE(i + 5, 5, many) DECODE(i + 6, 6, many) DECODE(i + 7, 7, many)
        }
    }
    if (whole % (STEPS * paths) == 0) memset(path, 0, (size_t)paths);
    for (int64_t i = whole; i < n; i++) {
        uint8_t *p = path + (whole & (paths - 1));
        DECODE(i, i - whole, many)
    }
    memcpy(states, x, sizeof x);
    return at == end && at_rest(states);
}

#define DECODER(kind, type, bytes)                                                                                    \
    bool k_trellis_decode__##kind(                                                                                    \
        const uint16_t *words, int64_t room, int64_t end, uint64_t *states, int64_t lanes, const uint8_t *classes,    \
        int64_t m, const uint8_t *slots, int64_t many, int64_t slot_count, const uint64_t *entries, int64_t many2,    \
        int64_t width, int64_t bits, const uint8_t *follow, int64_t f, uint8_t *path, int64_t paths,                  \
        const type *values, int64_t v, uint8_t *tokens, int64_t n, type *out, int64_t n2) {                           \
        (void)room, (void)lanes, (void)many, (void)slot_count, (void)many2, (void)f, (void)v, (void)n2;               \
        if (bits == 14 && f == 16 && bytes <= 4) {                                                                    \
            uint64_t merged[8 * 256];                                                                                 \
            for (int64_t i = 0; i < 8 * 256; i++)                                                                     \
                merged[i] = word_at(values, bytes, i & 511) | (uint64_t)follow[i >> 8 << 1 | (i & 1)] << 32;          \
            if (m > 1)                                                                                                \
                return trellis_decode(words, end, states, classes, true, slots, entries, width, 14, follow, path,     \
                                      paths, values, bytes, merged, tokens, n, out);                                  \
            return trellis_decode(words, end, states, classes, false, slots, entries, width, 14, follow, path, paths, \
                                  values, bytes, merged, tokens, n, out);                                             \
        }                                                                                                             \
        return trellis_decode(words, end, states, classes, m > 1, slots, entries, width, (int)bits, follow, path,     \
                              paths, values, bytes, NULL, tokens, n, out);                                            \
    }
DECODER(u8, uint8_t, 1)
DECODER(u16, uint16_t, 2)
DECODER(u32, uint32_t, 4)
DECODER(u64, uint64_t, 8)

#define LOOK_UP(kind, type)                                                                                        \
    void k_look_up__##kind(const uint8_t *tokens, int64_t n, const uint8_t *contexts, int64_t n2, const type *values, \
                           int64_t v, type *out, int64_t n3) {                                                     \
        (void)n2, (void)v, (void)n3;                                                                               \
        for (int64_t i = 0; i < n; i++) out[i] = values[(contexts[i] & 1) << 8 | tokens[i]];                       \
    }
LOOK_UP(u8, uint8_t)
LOOK_UP(u16, uint16_t)
LOOK_UP(u32, uint32_t)
LOOK_UP(u64, uint64_t)

void k_values_of(const uint8_t *tokens, int64_t n, const uint32_t *sizes, int64_t n2, float step, float *values,
                 int64_t n3) {
    (void)n2, (void)n3;
    for (int64_t i = 0; i < n; i++) {
        int64_t token = tokens[i], size = sizes[i], pair = token >= 128 ? size : -1 - size;
        values[i] = (float)(4 * pair + 2 * (token & 1) + (int64_t)values[i]) * step;
    }
}

void k_logarithms(const int64_t *numbers, int64_t n, int64_t *logs, int64_t n2) {
    (void)n2;
    for (int64_t i = 0; i < n; i++)
        if (numbers[i]) logs[i] = log2_of(numbers[i]);
}

WIDE void k_magnitudes(const float *values, int64_t n, float scale, uint32_t *words, int64_t n2) {
    (void)n2;
    for (int64_t i = 0; i < n; i++) {
        int32_t position = position_of(values[i], scale);
        words[i] = (uint32_t)(position < 0 ? -position : position);
    }
}

WIDE void k_add_along(const uint32_t *words, int64_t n, int64_t inner, int64_t at, int64_t *sums, int64_t size) {
    int64_t index = at / inner, left = inner - at % inner, i = 0;
    while (i < n) {
        if (inner == 1) {
            int64_t run = least_of(size - index, n - i);
            for (int64_t j = 0; j < run; j++) sums[index + j] += words[i + j];
            i += run;
            index = 0;
            continue;
        }
        int64_t run = least_of(left, n - i), total = 0;
        for (int64_t j = 0; j < run; j++) total += words[i + j];
        sums[index] += total;
        i += run;
        left = inner;
        index = index + 1 < size ? index + 1 : 0;
    }
}

/* The largest magnitude, NaN where a value is, and the sum of squares, in a fixed order. */
#define SQUARES 16
#define MOMENTS(kind, type, value_of)                                                                  \
    WIDE void k_moments__##kind(const type *values, int64_t n, double *found, int64_t two) {           \
        (void)two;                                                                                     \
        double sums[SQUARES] = {0}, largest[SQUARES] = {0}, total = 0, most = 0;                       \
        int64_t whole = n - n % SQUARES;                                                               \
        for (int64_t i = 0; i < whole; i += SQUARES)                                                   \
            for (int lane = 0; lane < SQUARES; lane++) {                                               \
                double value = value_of(values[i + lane]), magnitude = __builtin_fabs(value);          \
                sums[lane] += value * value;                                                           \
                largest[lane] = magnitude <= largest[lane] ? largest[lane] : magnitude;                \
            }                                                                                          \
        for (int64_t i = whole; i < n; i++) {                                                          \
            double value = value_of(values[i]), magnitude = __builtin_fabs(value);                     \
            sums[i - whole] += value * value;                                                          \
            largest[i - whole] = magnitude <= largest[i - whole] ? largest[i - whole] : magnitude;     \
        }                                                                                              \
        for (int lane = 0; lane < SQUARES; lane++) {                                                   \
            total += sums[lane];                                                                       \
            most = largest[lane] <= most ? most : largest[lane];                                       \
        }                                                                                              \
        found[0] = total != total ? total : most;                                                      \
        found[1] = total;                                                                              \
    }
MOMENTS(f32, float, (double))
MOMENTS(f64, double, (double))
