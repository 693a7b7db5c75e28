/* Trellis search and decoding. */
#include "common.h"

#define WIDTH 64
#define STEPS 1024
#define UNIT 128
#define EXACT 32
#define FAR 30000
#define GROUP 16 /* paths that fill a wide register of 16-bit numbers */

ALWAYS int32_t position_of(float value, float scale) { return __builtin_irintf(value * scale); }

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
