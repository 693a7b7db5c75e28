/* Differences of floats to those of a reference, counted in floats. */
#include "common.h"

#include <math.h>

#define AT_ONCE 512

/* By how many floats references are moved towards zero first: straight between the knots of a curve. */
typedef struct {
    const int64_t *curve;
    int64_t cell, fraction;
    int open_bits;
} Losses;

ALWAYS Losses losses_of(const int64_t *curve, int64_t size, int64_t mantissa) {
    Losses found = {curve, ((int64_t)1 << mantissa) / most_of(size - 1, 1), ((int64_t)1 << mantissa) - 1, 0};
    while (found.cell >> found.open_bits > 1) found.open_bits++;
    return found;
}

/* Magnitudes of references, lessened where there are losses. */
ALWAYS void magnitudes(const void *reference, int bytes, int64_t n, uint32_t low, const Losses *losses,
                       uint32_t *found) {
    if (!losses) {
        for (int64_t i = 0; i < n; i++) found[i] = word_at(reference, bytes, i) & low;
        return;
    }
    const int64_t *curve = losses->curve;
    int64_t rest = losses->cell - 1, half = losses->cell >> 1;
    uint32_t fraction = (uint32_t)losses->fraction;
    int open_bits = losses->open_bits;
    for (int64_t i = 0; i < n; i++) {
        uint32_t at = word_at(reference, bytes, i) & low, knot = (at & fraction) >> open_bits;
        int64_t from = curve[knot], loss = from + (((curve[knot + 1] - from) * (at & rest) + half) >> open_bits);
        found[i] = at > fraction ? at - (uint32_t)loss : at;
    }
}

/* Sizes fit 32 bits, as words do. */
ALWAYS void differences(const void *words, const void *reference, int bytes, int64_t n, uint32_t sign,
                        const Losses *losses, uint32_t *sizes, uint8_t *negative) {
    uint32_t low = sign - 1, at[AT_ONCE];
    for (int64_t start = 0; start < n; start += AT_ONCE) {
        int64_t some = least_of(AT_ONCE, n - start);
        magnitudes((const uint8_t *)reference + start * bytes, bytes, some, low, losses, at);
        for (int64_t i = 0; i < some; i++) {
            uint32_t word = word_at(words, bytes, start + i), near = word_at(reference, bytes, start + i);
            uint32_t across = (uint32_t)-(int32_t)(((word ^ near) & sign) != 0);
            uint32_t apart = ((word & low) ^ across) - at[i];
            uint32_t towards = across | (uint32_t)((int32_t)apart >> 31); /* all ones, or none */
            sizes[start + i] = (apart ^ towards) - towards;
            negative[start + i] = (uint8_t)(towards & 1);
        }
    }
}

ALWAYS void apply_differences(const uint32_t *sizes, const uint8_t *tokens, const void *reference, int bytes,
                              int64_t n, uint32_t sign, const Losses *losses, void *words) {
    uint32_t low = sign - 1, at[AT_ONCE];
    for (int64_t start = 0; start < n; start += AT_ONCE) {
        int64_t some = least_of(AT_ONCE, n - start);
        magnitudes((const uint8_t *)reference + start * bytes, bytes, some, low, losses, at);
        for (int64_t i = 0; i < some; i++) {
            uint32_t near = word_at(reference, bytes, start + i), size = sizes[start + i];
            uint32_t towards = (uint32_t)(tokens[start + i] & 1) - 1; /* all ones, or none */
            uint32_t across = (uint32_t)-(int32_t)(size > at[i]) & towards;
            uint32_t to = (at[i] + ((size ^ towards) - towards)) ^ across; /* -1 less it is beyond zero */
            set_word(words, bytes, start + i, ((near ^ across) & sign) | (to & low));
        }
    }
}

#define FOR_WORDS(kind, T, bytes)                                                                                      \
    WIDE void k_differences__##kind(const T *words, int64_t n, const T *reference, int64_t n2, int64_t sign,           \
                                    int64_t mantissa, const int64_t *curve, int64_t knots, uint32_t *sizes,            \
                                    int64_t n3, uint8_t *negative, int64_t n4) {                                       \
        (void)n2, (void)n3, (void)n4;                                                                                  \
        Losses losses = losses_of(curve, knots, mantissa);                                                             \
        if (knots > 1)                                                                                                 \
            differences(words, reference, bytes, n, (uint32_t)sign, &losses, sizes, negative);                         \
        else                                                                                                           \
            differences(words, reference, bytes, n, (uint32_t)sign, NULL, sizes, negative);                            \
    }                                                                                                                  \
    WIDE void k_apply_differences__##kind(const uint32_t *sizes, int64_t n2, const uint8_t *tokens, int64_t n3,        \
                                          const T *reference, int64_t n4, int64_t sign, int64_t mantissa,              \
                                          const int64_t *curve, int64_t knots, T *words, int64_t n) {                  \
        (void)n2, (void)n3, (void)n4;                                                                                  \
        Losses losses = losses_of(curve, knots, mantissa);                                                             \
        if (knots > 1)                                                                                                 \
            apply_differences(sizes, tokens, reference, bytes, n, (uint32_t)sign, &losses, words);                     \
        else                                                                                                           \
            apply_differences(sizes, tokens, reference, bytes, n, (uint32_t)sign, NULL, words);                        \
    }                                                                                                                  \
    WIDE void k_add_sizes__##kind(const uint32_t *sizes, int64_t n, const T *reference, int64_t n2, int64_t low,       \
                                  int64_t mantissa, const double *spacings, int64_t exponents, int64_t inner,          \
                                  int64_t at, int64_t most, int64_t skip, double *sums, int64_t size, int64_t *counts, \
                                  int64_t size2) {                                                                     \
        (void)n2, (void)exponents, (void)size2;                                                                        \
        add_sizes(sizes, n, reference, bytes, low, mantissa, spacings, inner, at, most, skip, sums, size, counts);     \
    }                                                                                                                  \
    WIDE void k_less_exponents__##kind(uint8_t *contexts, int64_t n2, const T *reference, int64_t n, int64_t low,      \
                                       int64_t mantissa, int64_t least, int64_t last, int64_t shift) {                 \
        (void)n2;                                                                                                      \
        less_exponents(contexts, reference, bytes, n, low, mantissa, least, last, shift);                              \
    }

ALWAYS double value_of(const uint32_t *sizes, const void *reference, int bytes, int64_t i, int64_t low,
                       int64_t mantissa, const double *spacings) {
    return (double)sizes[i] * spacings[(word_at(reference, bytes, i) & (uint32_t)low) >> least_of(mantissa, 31)];
}

ALWAYS void add_sizes(const uint32_t *sizes, int64_t n, const void *reference, int bytes, int64_t low,
                      int64_t mantissa, const double *spacings, int64_t inner, int64_t at, int64_t most, int64_t skip,
                      double *sums, int64_t size, int64_t *counts) {
    int64_t index = at / inner, left = inner - at % inner, i = 0;
#define VALUE(i) value_of(sizes, reference, bytes, i, low, mantissa, spacings)
    while (i < n) {
        int64_t run = least_of(inner == 1 ? size - index : left, n - i);
        if (inner == 1) {
            double *restrict added = sums + index;
            for (int64_t j = 0; j < run; j++) added[j] += VALUE(i + j);
            for (int64_t j = index; j < index + run; j++) counts[j]++;
            index += run;
        } else {
            int64_t some = least_of(run, most), whole = some - some % 4;
            double a = 0, b = 0, c = 0, d = 0; /* four sums at a time, as each waits for the one before */
            for (int64_t j = i; j < i + whole; j += 4) {
                a += VALUE(j);
                b += VALUE(j + 1);
                c += VALUE(j + 2);
                d += VALUE(j + 3);
            }
            for (int64_t j = i + whole; j < i + some; j++) a += VALUE(j);
            sums[index] += (a + b) + (c + d);
            counts[index] += some;
            index++;
            left = inner;
        }
        i += run;
        if (index == size) {
            index = 0;
            i += skip * size * inner;
        }
    }
#undef VALUE
}

/* Exponents have at most eleven bits: what is beyond their range and that of contexts is the same as its ends. */
ALWAYS void less_exponents(uint8_t *contexts, const void *reference, int bytes, int64_t n, int64_t low,
                           int64_t mantissa, int64_t least, int64_t last, int64_t shift) {
    int32_t from = (int32_t)least_of(most_of(least, -(1 << 20)), 1 << 20), most = (int32_t)last;
    uint32_t right = (uint32_t)least_of(mantissa, 31), mask = (uint32_t)low, drop = (uint32_t)shift;
    for (int64_t i = 0; i < n; i++) {
        int32_t exponent = (int32_t)((word_at(reference, bytes, i) & mask) >> right);
        exponent = exponent > 1 ? exponent : 1;
        int32_t found = contexts[i] - 4 * exponent - from;
        found = found > 0 ? found : 0;
        contexts[i] = (uint8_t)((found < most ? found : most) >> drop);
    }
}

FOR_WORDS(u8, uint8_t, 1)
FOR_WORDS(u16, uint16_t, 2)
FOR_WORDS(u32, uint32_t, 4)

WIDE void k_size_tokens(const uint32_t *sizes, int64_t n, const uint8_t *negative, int64_t n2, uint8_t *tokens,
                        int64_t n3) {
    (void)n2, (void)n3;
    for (int64_t i = 0; i < n; i++) {
        uint32_t size = sizes[i], bits;
        float value = (float)(size & ~(size >> 4)); /* as below its upper bits one is not set, it is not rounded up */
        memcpy(&bits, &value, 4);
        int32_t place = size < 4 ? (int32_t)size : (int32_t)(bits >> 21) - 4 * 128;
        int32_t token = 2 * place - 1 + negative[i];
        tokens[i] = (uint8_t)(size ? token : 0);
    }
}

#define SPARE 16 /* contexts whose second set of counts stays in the nearest cache: see `count_groups` */

void k_count_tokens(const uint8_t *tokens, int64_t n, const uint8_t *contexts, int64_t m, uint32_t *counts,
                    int64_t many, int64_t width) {
    if (m > 1) {
        int64_t whole = width == 256 ? n - n % 8 : 0;
        uint32_t spare[SPARE * 256], *others = counts;
        int64_t size = many * 256;
        if (whole && many <= SPARE) memset(others = spare, 0, (size_t)size * sizeof *spare);
        for (int64_t i = 0; i < whole; i += 8) {
            uint64_t eight, among;
            memcpy(&eight, tokens + i, 8);
            memcpy(&among, contexts + i, 8);
            for (int part = 0; part < 64; part += 16) {
                counts[(among >> part & 255) << 8 | (eight >> part & 255)]++;
                others[(among >> (part + 8) & 255) << 8 | (eight >> (part + 8) & 255)]++;
            }
        }
        for (int64_t i = 0; others != counts && i < size; i++) counts[i] += others[i];
        for (int64_t i = whole; i < n; i++) counts[contexts[i] * width + tokens[i]]++;
        return;
    }
    uint32_t found[4][256] = {{0}}; /* a count that follows itself would wait for it */
    int64_t whole = n - n % 4;
    for (int64_t i = 0; i < whole; i += 4)
        for (int part = 0; part < 4; part++) found[part][tokens[i + part]]++;
    for (int64_t i = whole; i < n; i++) found[0][tokens[i]]++;
    uint32_t *row = counts + contexts[0] * width;
    for (int64_t token = 0; token < least_of(width, 256); token++)
        row[token] += found[0][token] + found[1][token] + found[2][token] + found[3][token];
}

/* Some terms of some rows at a time, while they are near; those of each sum in their order. */
WIDE void k_add_product(const double *left, int64_t rows, int64_t terms, const double *right, int64_t terms2,
                        int64_t columns, double *out, int64_t rows2, int64_t columns2) {
    (void)terms2, (void)rows2, (void)columns2;
    for (int64_t from = 0; from < columns; from += 512)
        for (int64_t top = 0; top < rows; top += 8) {
            int64_t width = least_of(512, columns - from), bottom = least_of(top + 8, rows), k = 0;
            for (; k + 4 <= terms; k += 4) {
                const double *first = right + k * columns + from, *second = first + columns;
                const double *third = second + columns, *fourth = third + columns;
                for (int64_t i = top; i < bottom; i++) {
                    const double *factors = left + i * terms + k;
                    double a = factors[0], b = factors[1], c = factors[2], d = factors[3];
                    double *restrict row = out + i * columns + from;
                    for (int64_t j = 0; j < width; j++)
                        row[j] = (((row[j] + a * first[j]) + b * second[j]) + c * third[j]) + d * fourth[j];
                }
            }
            for (; k < terms; k++)
                for (int64_t i = top; i < bottom; i++) {
                    const double *added = right + k * columns + from;
                    double factor = left[i * terms + k], *restrict row = out + i * columns + from;
                    for (int64_t j = 0; j < width; j++) row[j] += factor * added[j];
                }
        }
}

WIDE void k_eliminate(double *matrix, int64_t size, int64_t size2, double *least, int64_t size3, int64_t *rows,
                      int64_t size4, int64_t *bits, int64_t ranks) {
    (void)size2, (void)size3, (void)size4;
    for (int64_t rank = 0; rank < ranks; rank++) {
        int64_t row = rank, column = rank, total = 0;
        for (int64_t i = rank; i < size; i++) {
            double squares = 0;
            for (int64_t j = rank; j < size; j++) {
                double value = matrix[i * size + j];
                squares += value * value;
                if (fabs(value) > fabs(matrix[row * size + column])) {
                    row = i;
                    column = j;
                }
            }
            double mean = squares / (double)(size - rank) + least[i];
            mean = mean < 1024 ? mean : 1024;
            total += log2_of((int64_t)(mean * 1099511627776.0) + 1) - (40 << 16);
        }
        int64_t among = 2 * (size - rank);
        bits[rank] = total / among - (total % among < 0); /* rounded down */
        double *taken = matrix + rank * size, *other = matrix + row * size;
        if (other[column] == 0) {
            for (int64_t later = rank + 1; later < ranks; later++) bits[later] = bits[rank];
            return;
        }
        int64_t number = rows[rank];
        rows[rank] = rows[row];
        rows[row] = number;
        double noise = least[rank];
        least[rank] = least[row];
        least[row] = noise;
        for (int64_t j = rank; j < size; j++) {
            double value = taken[j];
            taken[j] = other[j];
            other[j] = value;
        }
        for (int64_t i = rank; i < size; i++) {
            double value = matrix[i * size + rank];
            matrix[i * size + rank] = matrix[i * size + column];
            matrix[i * size + column] = value;
        }
        for (int64_t i = rank + 1; i < size; i++) {
            double *restrict changed = matrix + i * size;
            double factor = changed[rank] / taken[rank];
            for (int64_t j = rank + 1; j < size; j++) changed[j] -= factor * taken[j];
        }
    }
}
