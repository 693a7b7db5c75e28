/* Checksums that file formats keep of their bytes. */
#include "common.h"

/* Eight bytes at a time, each by the table of its place: they need not wait for each other. */
int64_t k_crc32c(const uint8_t *data, int64_t n, const uint32_t *table, int64_t places, int64_t width, int64_t crc) {
    (void)places;
    uint32_t state = ~(uint32_t)crc;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        state ^= (uint32_t)data[i] | (uint32_t)data[i + 1] << 8 | (uint32_t)data[i + 2] << 16 | (uint32_t)data[i + 3] << 24;
        state = table[7 * width + (state & 255)] ^ table[6 * width + (state >> 8 & 255)] ^
                table[5 * width + (state >> 16 & 255)] ^ table[4 * width + (state >> 24)] ^
                table[3 * width + data[i + 4]] ^ table[2 * width + data[i + 5]] ^ table[width + data[i + 6]] ^
                table[data[i + 7]];
    }
    for (; i < n; i++) state = state >> 8 ^ table[(state ^ data[i]) & 255];
    return (int64_t)(uint32_t)~state;
}
