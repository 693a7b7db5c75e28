/* The floats within the cells of a quantizer. */
#include "common.h"

#include <math.h>

#define CLASSES 7
#define LOG_PARTS 24
#define PARTS 16
#define AT_ONCE 512

ALWAYS int32_t less(int32_t a, int32_t b) { return a < b ? a : b; }
ALWAYS int32_t more(int32_t a, int32_t b) { return a > b ? a : b; }

ALWAYS float float_of(int32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

ALWAYS int32_t bits_of(float value) {
    int32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

WIDE void k_cell_classes(const float *low, int64_t n, const float *high, int64_t n2, uint8_t *classes, int64_t n3) {
    (void)n2, (void)n3;
    for (int64_t i = 0; i < n; i++) {
        float width = high[i] - low[i], away = fabsf(high[i] + low[i]); /* twice the distance of the middle */
        int32_t number = !(away < width) + !(away < 3 * width) + !(away < 5 * width) + !(away < 7 * width);
        classes[i] = (uint8_t)(number < 4 ? number : CLASSES);
    }
}

WIDE void k_overlapping_classes(const float *low, int64_t n, const float *high, int64_t n2, uint8_t *classes,
                                int64_t n3) {
    (void)n2, (void)n3;
    for (int64_t i = 0; i < n; i++) {
        float width = high[i] - low[i], away = fabsf(high[i] + low[i]);
        classes[i] = (uint8_t)(1 + !(away < 0.25f * width) + !(away < 0.75f * width) + !(away < 1.25f * width) +
                               !(away < 1.75f * width) + !(away < 2.25f * width));
    }
}

/* The end of a part of half the cell around zero, as a share of that half: four in each octave, exact. */
ALWAYS float share_of(int32_t part) { return (float)(5 + (part & 3)) * float_of((119 + (part >> 2)) << 23); }

WIDE void k_find_parts(const float *values, int64_t n, const float *low, int64_t n2, const float *high, int64_t n3,
                       const uint8_t *classes, int64_t n4, uint8_t *parts, int64_t n5) {
    (void)n2, (void)n3, (void)n4, (void)n5;
    for (int64_t i = 0; i < n; i++) {
        float value = values[i], begin = low[i], end = high[i], step = (end - begin) * (1.0f / PARTS);
        int32_t part = 0, central = 0;
#define JUMP(jump) part = value >= begin + (float)(part + jump) * step ? part + jump : part;
        JUMP(8) JUMP(4) JUMP(2) JUMP(1)
#undef JUMP
        part = end + begin < 0 ? PARTS - 1 - part : part;
        bool negative = (value <= 0) & (bits_of(value) < 0);
        float size = negative ? -value : value, reach = negative ? -begin : end;
#define JUMP(jump)                                                                     \
    {                                                                                  \
        int32_t higher = less(central + jump, LOG_PARTS - 1);                          \
        central = size < reach * share_of(higher - 1) ? central : higher;              \
    }
        JUMP(16) JUMP(8) JUMP(4) JUMP(2) JUMP(1)
#undef JUMP
        central = negative ? central + LOG_PARTS : central;
        parts[i] = (uint8_t)(classes[i] ? part : central);
    }
}

WIDE void k_narrow(const uint8_t *parts, int64_t n, const uint8_t *classes, int64_t n2, float *low, int64_t n3,
                   float *high, int64_t n4) {
    (void)n2, (void)n3, (void)n4;
    for (int64_t i = 0; i < n; i++) {
        int32_t given = parts[i];
        float begin = low[i], end = high[i], step = (end - begin) * (1.0f / PARTS);
        bool negative = given >= LOG_PARTS;
        int32_t central = less(negative ? given - LOG_PARTS : given, LOG_PARTS - 1);
        float reach = negative ? -begin : end;
        float inner = central ? reach * share_of(central - 1) : 0.0f, outer = reach * share_of(central);
        int32_t part = end + begin < 0 ? PARTS - 1 - given : given;
        float first = begin + (float)part * step, last = begin + (float)(part + 1) * step;
        bool around = !classes[i];
        low[i] = around ? (negative ? -outer : inner) : first;
        high[i] = around ? (negative ? -inner : outer) : last;
    }
}

/* A whole number for each float, in the same order; below all others for what is no number. `flip` turns signs. */
ALWAYS int32_t rank_of(float value, int32_t flip) {
    int32_t bits = bits_of(value) ^ flip, rank = bits ^ (bits >> 31 & INT32_MAX);
    return (bits & INT32_MAX) > 0x7F800000 ? -INT32_MAX : rank;
}

/* The float that has a rank, or the one given, if that is larger, as any is than no number, or is none. */
ALWAYS float ranked(int32_t rank, int32_t flip, float given) {
    float found = float_of((rank ^ (rank >> 31 & INT32_MAX)) ^ flip);
    return (flip ? found < given : found > given) ? found : given;
}

ALWAYS int32_t most_ranked(const float *values, int64_t n, int32_t flip) {
    int32_t most = INT32_MIN;
    for (int64_t i = 0; i < n; i++) most = more(most, rank_of(values[i], flip));
    return most;
}

WIDE int64_t k_find_ends(const float *low, int64_t n, const float *high, int64_t n2, int64_t start, int64_t length,
                         int64_t *found, int64_t room) {
    (void)n2;
    int64_t count = 0;
    if (length < 1) return 0;
    for (int64_t begin = (length - start % length) % length; begin <= n - length && count < room; begin += length) {
        const float *lows = low + begin, *highs = high + begin;
        float top = ranked(most_ranked(highs, length, 0), 0, highs[0]);
        float bottom = ranked(most_ranked(lows, length, INT32_MIN), INT32_MIN, lows[0]);
        int32_t tops = 0, bottoms = 0, at_top = 0, at_bottom = 0;
        for (int32_t i = 0; i < (int32_t)length; i++) {
            int32_t upper = -(highs[i] == top), lower = -(lows[i] == bottom);
            tops -= upper, bottoms -= lower;
            at_top |= upper & i, at_bottom |= lower & i;
        }
        bool upper = tops == 1 && lows[at_top] > 0, lower = bottoms == 1 && highs[at_bottom] < 0;
        if (upper || lower) found[count++] = begin + (upper && (!lower || at_top < at_bottom) ? at_top : at_bottom);
    }
    return count;
}

WIDE void k_narrow_ends(const int64_t *found, int64_t n, const float *values, int64_t m, const float *bounds,
                        int64_t runs, int64_t two, int64_t start, int64_t length, const float *low, int64_t m2,
                        const float *high, int64_t m3, float *ends, int64_t two2, int64_t n2) {
    (void)m, (void)runs, (void)two, (void)m2, (void)m3, (void)two2, (void)n2;
    for (int64_t number = 0; number < n; number++) {
        int64_t at = found[number], run = (start + at) / length, begin = run * length - start;
        bool upper = low[at] > 0; /* the values on the other side of zero count */
        int32_t flip = upper ? INT32_MIN : 0, rank = most_ranked(values + begin, at - begin, flip);
        float other = ranked(more(rank, most_ranked(values + at + 1, begin + length - at - 1, flip)), flip, 0);
        float near = bounds[2 * run], far = bounds[2 * run + 1];
        float least = upper ? other + near : other - far, most = upper ? other + far : other - near;
        ends[number] = least > low[at] ? least : low[at];
        ends[n + number] = most < high[at] ? most : high[at];
    }
}

/* What `cell_range` finds of some cells. */
typedef struct {
    int32_t top[AT_ONCE], first[AT_ONCE], count[AT_ONCE];
} Ranges;

ALWAYS int32_t bucket_of(int32_t bits, int32_t mantissa, int32_t top, bool up) {
    int32_t raised = bits >> 23, whole = (bits & 0x7FFFFF) | (raised ? 0x800000 : 0);
    int32_t shift = less(23 - mantissa + top - more(raised, 1), 31), bucket = whole >> shift;
    return bucket + (up & ((bucket >> mantissa) != 0) & (bucket << shift != whole));
}

ALWAYS void find_ranges(const int32_t *low, const int32_t *high, int64_t n, int32_t mantissa, int32_t least,
                        int32_t fine, Ranges *found) {
    for (int64_t i = 0; i < n; i++) {
        int32_t small = low[i] & INT32_MAX, large = high[i] & INT32_MAX, top = more(more(small, large) >> 23, least);
        int32_t first = bucket_of(small, mantissa + fine, top, !fine & (low[i] >= 0));
        int32_t last = bucket_of(large, mantissa + fine, top, !fine & (high[i] < 0));
        first = low[i] < 0 ? -1 - first : first;
        last = high[i] < 0 ? -1 - last : last;
        bool sound = (top < 255) & (first <= last);
        found->top[i] = top;
        found->first[i] = sound ? first : 0;
        found->count[i] = sound ? last - first + 1 : 1;
    }
}

ALWAYS int32_t places_of(int32_t bucket, int32_t fine) { return (int32_t)((uint32_t)bucket << fine); }

/* Number of bits of a word that its bucket leaves open: all but the sign in the one at zero. */
ALWAYS int32_t open_bits(int32_t bucket, int32_t mantissa, int32_t exponents, int32_t room) {
    int32_t length = (bits_of((float)bucket) >> 23) - 127; /* exact below 2^24 */
    return bucket ? less(more(mantissa - length, 0), room) : mantissa + exponents;
}

/* The first of 2^16 slots that a place among `count` owns: their quotient, rounded up. By half a number more it is
 * never a whole one, so that the rounding of the reciprocal does not matter. */
ALWAYS int32_t first_slot(int32_t place, int32_t count, double reciprocal) {
    return (int32_t)(((double)place * 65536.0 + ((double)count - 0.5)) * reciprocal);
}

ALWAYS void cell_costs(const void *words, int bytes, int64_t n, const int32_t *low, const int32_t *high,
                       int32_t mantissa, int32_t exponents, int32_t offset, int32_t fine, int64_t *counts) {
    Ranges found;
    int32_t least = offset + 1, rest = (1 << (mantissa + exponents)) - 1;
    for (int64_t start = 0; start < n; start += AT_ONCE) {
        int64_t some = least_of(AT_ONCE, n - start);
        find_ranges(low + start, high + start, some, mantissa, least, fine, &found);
        for (int64_t i = 0; i < some; i++) {
            int32_t raised = ((int32_t)word_at(words, bytes, start + i) & rest) >> mantissa;
            int32_t drop = less(more(found.top[i] - more(raised + offset, least), 0), mantissa + exponents);
            int64_t count = found.count[i];
            counts[start + i] = count >> fine ? count << drop >> fine : (int64_t)1 << drop;
        }
    }
}

WIDE void k_cell_costs__u16(const uint16_t *words, int64_t n, const int32_t *low, int64_t n2, const int32_t *high,
                       int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset, int64_t fine, int64_t *counts,
                       int64_t n4) {
    (void)n2, (void)n3, (void)n4;
    cell_costs(words, 2, n, low, high, (int32_t)mantissa, (int32_t)exponents, (int32_t)offset, (int32_t)fine, counts);
}

WIDE void k_cell_costs__u32(const uint32_t *words, int64_t n, const int32_t *low, int64_t n2, const int32_t *high,
                       int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset, int64_t fine, int64_t *counts,
                       int64_t n4) {
    (void)n2, (void)n3, (void)n4;
    cell_costs(words, 4, n, low, high, (int32_t)mantissa, (int32_t)exponents, (int32_t)offset, (int32_t)fine, counts);
}

WIDE int64_t k_sum_logs(const int64_t *numbers, int64_t n) {
    int64_t total = 0;
    for (int64_t i = 0; i < n; i++) total += log2_of(numbers[i]);
    return total;
}

ALWAYS int64_t encode_cells(const void *words, int bytes, int64_t n, const int32_t *low, const int32_t *high,
                            int32_t mantissa, int32_t exponents, int32_t offset, int32_t fine, uint32_t *entries,
                            uint8_t *outside, uint32_t *data) {
    Ranges found;
    uint32_t rest[AT_ONCE], widths[AT_ONCE];
    int32_t sign = 1 << (mantissa + exponents), least = offset + 1, full = (1 << exponents) - 1;
    uint64_t held = 0, bits = 0;
    int64_t at = 0;
    for (int64_t start = 0; start < n; start += AT_ONCE) {
        int64_t some = least_of(AT_ONCE, n - start);
        find_ranges(low + start, high + start, some, mantissa, least, fine, &found);
        for (int64_t i = 0; i < some; i++) {
            int32_t word = (int32_t)word_at(words, bytes, start + i), size = word & (sign - 1), raised = size >> mantissa;
            int32_t whole = (size & ((1 << mantissa) - 1)) | (raised ? 1 << mantissa : 0);
            int32_t top = found.top[i], first = found.first[i], count = found.count[i];
            int32_t drop = top - more(raised + offset, least), bucket = whole >> less(more(drop, 0), 31);
            int32_t number = word & sign ? -1 - bucket : bucket, place = places_of(number, fine) - first;
            bool lost = (drop < 0) | (raised == full) | (more(place, 0) >= less(place + (1 << fine), count));
            number = lost ? first >> fine : number;
            place = places_of(number, fine) - first;
            bucket = number < 0 ? -1 - number : number;
            int32_t width = open_bits(bucket, mantissa, exponents, top - least);
            int32_t begin = more(place, 0), behind = less(place + (1 << fine), count);
            double reciprocal = 1 / (double)count;
            uint32_t slot = (uint32_t)first_slot(begin, count, reciprocal);
            uint32_t entry = ((uint32_t)first_slot(behind, count, reciprocal) - slot) << 16 | slot;
            entries[start + i] = behind - begin < count ? entry : 0;
            outside[start + i] = lost;
            widths[i] = (uint32_t)width;
            rest[i] = lost ? 0 : (uint32_t)(bucket ? whole : size) & ((1u << width) - 1);
        }
        for (int64_t i = 0; i < some; i++) {
            held |= (uint64_t)rest[i] << bits;
            bits += widths[i];
            data[at] = (uint32_t)held;
            uint64_t ready = bits >> 5; /* 0 or 1 */
            at += (int64_t)ready;
            held >>= ready << 5;
            bits &= 31;
        }
    }
    if (bits) data[at++] = (uint32_t)held;
    return at;
}

WIDE int64_t k_encode_cells__u16(const uint16_t *words, int64_t n, const int32_t *low, int64_t n2,
                                 const int32_t *high, int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset,
                                 int64_t fine, uint32_t *entries, int64_t n4, uint8_t *outside, int64_t n5,
                                 uint32_t *data, int64_t room) {
    (void)n2, (void)n3, (void)n4, (void)n5, (void)room;
    return encode_cells(words, 2, n, low, high, (int32_t)mantissa, (int32_t)exponents, (int32_t)offset, (int32_t)fine,
                        entries, outside, data);
}

WIDE int64_t k_encode_cells__u32(const uint32_t *words, int64_t n, const int32_t *low, int64_t n2,
                                 const int32_t *high, int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset,
                                 int64_t fine, uint32_t *entries, int64_t n4, uint8_t *outside, int64_t n5,
                                 uint32_t *data, int64_t room) {
    (void)n2, (void)n3, (void)n4, (void)n5, (void)room;
    return encode_cells(words, 4, n, low, high, (int32_t)mantissa, (int32_t)exponents, (int32_t)offset, (int32_t)fine,
                        entries, outside, data);
}

int64_t k_encode_entries(const uint32_t *entries, int64_t n, uint16_t *words, int64_t room, uint64_t *states,
                         int64_t lanes) {
    (void)lanes;
    int64_t at = room - 1, whole = n - n % LANES;
    uint64_t x[LANES];
    for (int lane = 0; lane < LANES; lane++) x[lane] = LOW;
#define STEP(i, lane) if (entries[i]) x[lane] = push(x[lane], &at, words, entries[i], 16);
    for (int64_t i = n - 1; i >= whole; i--) STEP(i, i - whole)
    for (int64_t i = whole - LANES; i >= 0; i -= LANES) {
        STEP(i + 7, 7) STEP(i + 6, 6) STEP(i + 5, 5) STEP(i + 4, 4) STEP(i + 3, 3) STEP(i + 2, 2) STEP(i + 1, 1) STEP(i, 0)
    }
#undef STEP
    memcpy(states, x, sizeof x);
    return at + 1;
}

ALWAYS bool decode_cells(const uint16_t *coded, int64_t end, uint64_t *states, const uint32_t *data, int64_t size,
                         const int32_t *low, const int32_t *high, int64_t n, int32_t mantissa, int32_t exponents,
                         int32_t offset, int32_t fine, void *words, int bytes) {
    Ranges found;
    int32_t numbers[AT_ONCE];
    uint32_t rest[AT_ONCE], widths[AT_ONCE];
    int32_t sign = 1 << (mantissa + exponents), least = offset + 1;
    int64_t at = 0, there = 1;
    uint64_t held = data[0], bits = 32, x[LANES];
    memcpy(x, states, sizeof x);
    for (int64_t start = 0; start < n; start += AT_ONCE) {
        if (start % BLOCK == 0 && (at > end || there > size + 1)) {
            memcpy(states, x, sizeof x);
            return false;
        }
        int64_t some = least_of(AT_ONCE, n - start);
        find_ranges(low + start, high + start, some, mantissa, least, fine, &found);
#define STEP(i, lane)                                                                                       \
    {                                                                                                       \
        int32_t first = found.first[i], count = found.count[i];                                             \
        uint64_t slot = x[lane] & 0xFFFF;                                                                   \
        int32_t number = (first + (int32_t)((slot * (uint64_t)count) >> 16)) >> fine;                       \
        int32_t place = places_of(number, fine) - first;                                                    \
        uint32_t begin = (uint32_t)more(place, 0), behind = (uint32_t)less(place + (1 << fine), count);     \
        uint32_t among = (uint32_t)count, before = ((begin << 16) + among - 1) / among;                     \
        uint32_t frequency = ((behind << 16) + among - 1) / among - before;                                 \
        uint64_t left = frequency * (x[lane] >> 16) + slot - before, longer = left << 16 | coded[at];       \
        uint64_t empty = below(left, LOW) & below(behind - begin, among); /* one bucket alone is not coded */ \
        at -= (int64_t)empty;                                                                               \
        x[lane] = choose(empty, longer, left);                                                              \
        numbers[i] = number;                                                                                \
    }
        int64_t whole = some - some % LANES;
        for (int64_t i = 0; i < whole; i += LANES) {
            STEP(i, 0) STEP(i + 1, 1) STEP(i + 2, 2) STEP(i + 3, 3) STEP(i + 4, 4) STEP(i + 5, 5) STEP(i + 6, 6) STEP(i + 7, 7)
        }
        for (int64_t i = whole; i < some; i++) STEP(i, i - whole)
#undef STEP
        for (int64_t i = 0; i < some; i++) {
            int32_t bucket = numbers[i] < 0 ? -1 - numbers[i] : numbers[i];
            widths[i] = (uint32_t)open_bits(bucket, mantissa, exponents, found.top[i] - least);
        }
        for (int64_t i = 0; i < some; i++) {
            uint64_t width = widths[i];
            rest[i] = (uint32_t)(held & (((uint64_t)1 << width) - 1));
            held >>= width;
            bits -= width;
            uint64_t empty = bits < 32;
            held |= (data[there] * empty) << bits;
            bits += empty << 5;
            there += (int64_t)empty;
        }
        for (int64_t i = 0; i < some; i++) {
            int32_t number = numbers[i], bucket = number < 0 ? -1 - number : number, width = (int32_t)widths[i];
            int32_t raised = (int32_t)((uint32_t)(found.top[i] - width - offset) << mantissa);
            int32_t above = raised + (int32_t)((uint32_t)bucket << width) - (1 << mantissa);
            int32_t word = (int32_t)rest[i] + (bucket ? above : 0);
            set_word(words, bytes, start + i, (uint64_t)((word & (sign - 1)) | (number < 0 ? sign : 0)));
        }
    }
    memcpy(states, x, sizeof x);
    uint64_t used = ((uint64_t)there << 5) - bits;
    return at == end && (used + 31) >> 5 == (uint64_t)size && at_rest(states);
}

WIDE bool k_decode_cells__u16(const uint16_t *coded, int64_t room, int64_t end, uint64_t *states, int64_t lanes,
                              const uint32_t *data, int64_t room2, int64_t size, const int32_t *low, int64_t n2,
                              const int32_t *high, int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset,
                              int64_t fine, uint16_t *words, int64_t n) {
    (void)room, (void)lanes, (void)room2, (void)n2, (void)n3;
    return decode_cells(coded, end, states, data, size, low, high, n, (int32_t)mantissa, (int32_t)exponents,
                        (int32_t)offset, (int32_t)fine, words, 2);
}

WIDE bool k_decode_cells__u32(const uint16_t *coded, int64_t room, int64_t end, uint64_t *states, int64_t lanes,
                              const uint32_t *data, int64_t room2, int64_t size, const int32_t *low, int64_t n2,
                              const int32_t *high, int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset,
                              int64_t fine, uint32_t *words, int64_t n) {
    (void)room, (void)lanes, (void)room2, (void)n2, (void)n3;
    return decode_cells(coded, end, states, data, size, low, high, n, (int32_t)mantissa, (int32_t)exponents,
                        (int32_t)offset, (int32_t)fine, words, 4);
}
