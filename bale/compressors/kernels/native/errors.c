/* Sums over source values and decoded values, in one pass and in an order that is the same on every machine. */
#include "common.h"

#define STEP 8
#define HALF 4  /* elements of a register: wider types are taken to pieces badly */
#define PIECE 512  /* elements whose values as doubles stay in the nearest cache */
#define NARROW 32 /* elements of a row below which its sums are made one by one */

typedef double doubles __attribute__((vector_size(8 * HALF)));
typedef int64_t longs __attribute__((vector_size(8 * HALF)));

/* What is counted of a row, or of a part of one. */
typedef struct {
    double error2, norm2, decoded2, dot, largest;
    int64_t nonzero, zeroed, moved, vanished, negative;
} Sums;

ALWAYS double value_at(const void *words, int kind, int64_t at) {
    if (kind == 8) return ((const double *)words)[at];
    if (kind == 4) return ((const float *)words)[at];
    uint32_t wide = (uint32_t)((const uint16_t *)words)[at] << 16;
    float found;
    memcpy(&found, &wide, 4);
    return found;
}

/* The lanes of a sum, in one order. */
ALWAYS double total(const doubles *lanes) {
    doubles sum = lanes[0] + lanes[1];
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

ALWAYS doubles load(const double *values) {
    doubles found;
    memcpy(&found, values, sizeof found);
    return found;
}

ALWAYS int64_t count(longs lanes) {
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

ALWAYS void add_counts(Sums *sums, const double *x, const double *y, int64_t n) {
    longs first = {0}, second = {0}; /* counts of up to PIECE: the first three, and the last two, share a number */
    for (int64_t i = 0; i < n; i += HALF) {
        doubles p = load(x + i), q = load(y + i);
        longs was = p != 0, now = q != 0;
        first += (was & 1) + ((was & ~now) & (1 << 20)) + ((now & ~was) & ((int64_t)1 << 40));
        second += ((was & (q <= 0)) & 1) + ((p < 0) & (1 << 20));
    }
    int64_t one = count(first), two = count(second), mask = (1 << 20) - 1;
    sums->nonzero += one & mask;
    sums->zeroed += one >> 20 & mask;
    sums->moved += one >> 40;
    sums->vanished += two & mask;
    sums->negative += two >> 20;
}

/* The same of words of BF16, up to PIECE of them: more fit a register. */
ALWAYS void add_counts_of_words(Sums *sums, const uint16_t *x, const uint16_t *y, int64_t n) {
    uint16_t nonzero = 0, zeroed = 0, moved = 0, vanished = 0, negative = 0;
    for (int64_t i = 0; i < n; i++) {
        uint16_t p = x[i] & 0x7FFF, q = y[i] & 0x7FFF, infinity = 0x7F80;
        uint16_t was = p != 0, now = q != 0;
        uint16_t below = (x[i] >> 15) & (p <= infinity) & was, gone = (q == 0) | ((y[i] >> 15) & (q <= infinity));
        nonzero += was;
        zeroed += was & !now;
        moved += now & !was;
        vanished += was & gone;
        negative += below;
    }
    sums->nonzero += nonzero, sums->zeroed += zeroed, sums->moved += moved;
    sums->vanished += vanished, sums->negative += negative;
}

/* The next elements as doubles, filled up with zeros to whole steps; returns how many these are then. */
ALWAYS int64_t load_piece(const void *x, const void *y, int kind, int64_t start, int64_t end, double *a, double *b) {
    int64_t length = least_of(PIECE, end - start), even = (length + STEP - 1) / STEP * STEP;
    for (int64_t i = 0; i < length; i++) a[i] = value_at(x, kind, start + i);
    for (int64_t i = 0; i < length; i++) b[i] = value_at(y, kind, start + i);
    for (int64_t i = length; i < even; i++) a[i] = b[i] = 0;
    return even;
}

/* A long row: element i of it counts in lane i % STEP. */
ALWAYS Sums long_row(const void *x, const void *y, int kind, int64_t at, int64_t n) {
    Sums sums = {0};
    doubles error2[2] = {0}, norm2[2] = {0}, decoded2[2] = {0}, dot[2] = {0}, largest = {0};
    double a[PIECE], b[PIECE];
    for (int64_t start = 0; start < n; start += PIECE) {
        int64_t even = load_piece(x, y, kind, at + start, at + n, a, b);
        for (int64_t i = 0; i < even; i += STEP)
            for (int half = 0; half < 2; half++) {
                doubles difference = load(a + i + half * HALF) - load(b + i + half * HALF);
                error2[half] += difference * difference;
                doubles away = (doubles)((longs)difference & INT64_MAX);
                longs more = away > largest;
                largest = (doubles)(((longs)away & more) | ((longs)largest & ~more));
            }
        for (int64_t i = 0; i < even; i += STEP)
            for (int half = 0; half < 2; half++) {
                doubles p = load(a + i + half * HALF), q = load(b + i + half * HALF);
                norm2[half] += p * p;
                decoded2[half] += q * q;
                dot[half] += p * q;
            }
        if (kind == 2)
            add_counts_of_words(&sums, (const uint16_t *)x + at + start, (const uint16_t *)y + at + start,
                                least_of(PIECE, n - start));
        else
            add_counts(&sums, a, b, even);
    }
    sums.error2 = total(error2), sums.norm2 = total(norm2), sums.decoded2 = total(decoded2), sums.dot = total(dot);
    for (int lane = 0; lane < HALF; lane++) sums.largest = largest[lane] > sums.largest ? largest[lane] : sums.largest;
    return sums;
}

/* A short row: one element after the other, and nothing counted but whether anything is not zero. */
ALWAYS Sums short_row(const void *x, const void *y, int kind, int64_t at, int64_t n) {
    Sums sums = {0};
    for (int64_t i = at; i < at + n; i++) {
        double p = value_at(x, kind, i), q = value_at(y, kind, i), difference = p - q;
        double away = difference < 0 ? -difference : difference;
        sums.error2 += difference * difference;
        sums.norm2 += p * p;
        sums.decoded2 += q * q;
        sums.dot += p * q;
        sums.largest = away > sums.largest ? away : sums.largest;
        sums.nonzero |= p != 0;
    }
    return sums;
}

/* Counts of all elements, whatever rows they are of. */
ALWAYS Sums counts_of(const void *x, const void *y, int kind, int64_t n) {
    Sums sums = {0};
    double a[PIECE], b[PIECE];
    for (int64_t start = 0; start < n; start += PIECE) add_counts(&sums, a, b, load_piece(x, y, kind, start, n, a, b));
    return sums;
}

ALWAYS void tell(const Sums *sums, int64_t *counts) {
    counts[0] += sums->nonzero;
    counts[1] += sums->zeroed;
    counts[2] += sums->moved;
    counts[3] += sums->vanished;
    counts[4] += sums->negative;
}

/* Squares that are too small for a double are not those of zeros. */
ALWAYS double seen(double square, bool something) { return square == 0 && something ? 5e-324 : square; }

/* `first` elements are the end of a row, those behind are rows of `width`. `sums`: error2, norm2, decoded2, dot,
 * largest; `counts`: not zero, became zero, no longer zero, came back as zero or below, below zero. All are added to,
 * but for the largest. Of each row `errors` and `norms` get the sum of squares, not zero where a number is not. */
ALWAYS void compare(const void *x, const void *y, int kind, int64_t n, int64_t first, int64_t width, double *sums,
                    int64_t *counts, double *errors, double *norms) {
    int64_t row = 0;
    for (int64_t at = 0, stop; at < n; at = stop, row++) {
        stop = least_of(at + (at == 0 && first ? first : width), n);
        Sums found = width < NARROW ? short_row(x, y, kind, at, stop - at) : long_row(x, y, kind, at, stop - at);
        sums[0] += found.error2;
        sums[1] += found.norm2;
        sums[2] += found.decoded2;
        sums[3] += found.dot;
        sums[4] = found.largest > sums[4] ? found.largest : sums[4];
        if (width >= NARROW) tell(&found, counts);
        errors[row] = seen(found.error2, found.largest != 0);
        norms[row] = seen(found.norm2, found.nonzero != 0);
    }
    if (width < NARROW) {
        Sums all = counts_of(x, y, kind, n);
        tell(&all, counts);
    }
}

WIDE void k_compare__u16(const uint16_t *x, int64_t n, const uint16_t *y, int64_t n2, int64_t first, int64_t width,
                         double *sums, int64_t s, int64_t *counts, int64_t c, double *errors, int64_t rows,
                         double *norms, int64_t rows2) {
    (void)n2, (void)s, (void)c, (void)rows, (void)rows2;
    compare(x, y, 2, n, first, width, sums, counts, errors, norms);
}

WIDE void k_compare__f32(const float *x, int64_t n, const float *y, int64_t n2, int64_t first, int64_t width,
                         double *sums, int64_t s, int64_t *counts, int64_t c, double *errors, int64_t rows,
                         double *norms, int64_t rows2) {
    (void)n2, (void)s, (void)c, (void)rows, (void)rows2;
    compare(x, y, 4, n, first, width, sums, counts, errors, norms);
}

WIDE void k_compare__f64(const double *x, int64_t n, const double *y, int64_t n2, int64_t first, int64_t width,
                         double *sums, int64_t s, int64_t *counts, int64_t c, double *errors, int64_t rows,
                         double *norms, int64_t rows2) {
    (void)n2, (void)s, (void)c, (void)rows, (void)rows2;
    compare(x, y, 8, n, first, width, sums, counts, errors, norms);
}
