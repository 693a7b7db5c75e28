/* The compiled loops, as bale.compressors.kernels describes them; read by the C compiler and by cffi.
 *
 * Each is called k_NAME, with __T behind it where it takes arrays of several kinds. An array comes as its pointer and
 * then the sizes of its axes, and is contiguous. None allocates, or checks what it is given: callers do both. */

int64_t k_log2(int64_t number);

/* checksums.c */
int64_t k_crc32c(const uint8_t *data, int64_t n, const uint32_t *table, int64_t places, int64_t width, int64_t crc);

/* axes.c */
void k_axis_sums__u8(const uint8_t *words, int64_t n, int64_t shift, int64_t mask, int64_t sign, int64_t inner,
                     int64_t at, int64_t *sums, int64_t size);
void k_axis_sums__u16(const uint16_t *words, int64_t n, int64_t shift, int64_t mask, int64_t sign, int64_t inner,
                      int64_t at, int64_t *sums, int64_t size);
void k_add_contexts(const int16_t *first, int64_t size, int64_t inner, int64_t at, const int16_t *second,
                    int64_t size2, int64_t inner2, int64_t at2, int64_t low, int64_t last, int64_t shift,
                    const int64_t *starts, int64_t runs, uint8_t *contexts, int64_t rows, int64_t length);
void k_flip__u8(uint8_t *words, int64_t n, int64_t inner, int64_t at, const uint8_t *flags, int64_t size);
void k_flip__u16(uint16_t *words, int64_t n, int64_t inner, int64_t at, const uint16_t *flags, int64_t size);
void k_count_groups__u8(const uint8_t *words, int64_t n, const uint8_t *contexts, int64_t m, int64_t shift,
                        int64_t lowest, int64_t sign, uint32_t *counts, int64_t many, int64_t signs, int64_t places);
void k_count_groups__u16(const uint16_t *words, int64_t n, const uint8_t *contexts, int64_t m, int64_t shift,
                         int64_t lowest, int64_t sign, uint32_t *counts, int64_t many, int64_t signs, int64_t places);
void k_split_costs(const uint32_t *counts, int64_t contexts, int64_t signs, int64_t exponents, int64_t parts,
                   int64_t fine, int64_t entry, int64_t *costs, int64_t rows, int64_t columns);
int64_t k_token_cost__u32(const uint32_t *counts, int64_t contexts, int64_t tokens, int64_t entry);
int64_t k_token_cost__i64(const int64_t *counts, int64_t contexts, int64_t tokens, int64_t entry);
void k_translate__u8(const uint8_t *values, int64_t n, const uint8_t *table, int64_t size, const uint8_t *contexts,
                     int64_t m, uint8_t *tokens, int64_t n2, uint32_t *counts, int64_t many, int64_t width);
void k_translate__u16(const uint16_t *values, int64_t n, const uint8_t *table, int64_t size, const uint8_t *contexts,
                      int64_t m, uint8_t *tokens, int64_t n2, uint32_t *counts, int64_t many, int64_t width);

/* rans.c */
int64_t k_rans_encode(const uint8_t *tokens, int64_t n, const uint8_t *contexts, int64_t m, const uint64_t *entries,
                      int64_t many, int64_t width, int64_t bits, uint16_t *words, int64_t room, uint64_t *states,
                      int64_t lanes);
bool k_rans_decode(const uint16_t *words, int64_t room, int64_t end, uint64_t *states, int64_t lanes,
                   const uint8_t *contexts, int64_t m, const uint8_t *slots, int64_t many, int64_t slot_count,
                   const uint64_t *entries, int64_t many2, int64_t width, int64_t bits, uint8_t *tokens, int64_t n);
int64_t k_put_fields__u8(const uint8_t *values, int64_t n, const uint8_t *tokens, int64_t n2, const uint64_t *bases,
                         int64_t b, const uint64_t *widths, int64_t w, uint32_t *data, int64_t room);
int64_t k_put_fields__u16(const uint16_t *values, int64_t n, const uint8_t *tokens, int64_t n2, const uint64_t *bases,
                          int64_t b, const uint64_t *widths, int64_t w, uint32_t *data, int64_t room);
int64_t k_put_fields__u32(const uint32_t *values, int64_t n, const uint8_t *tokens, int64_t n2, const uint64_t *bases,
                          int64_t b, const uint64_t *widths, int64_t w, uint32_t *data, int64_t room);
bool k_get_fields__u8(const uint32_t *data, int64_t room, int64_t end, const uint8_t *tokens, int64_t n,
                      const uint64_t *bases, int64_t b, const uint64_t *widths, int64_t w, uint8_t *values,
                      int64_t n2);
bool k_get_fields__u16(const uint32_t *data, int64_t room, int64_t end, const uint8_t *tokens, int64_t n,
                       const uint64_t *bases, int64_t b, const uint64_t *widths, int64_t w, uint16_t *values,
                       int64_t n2);
bool k_get_fields__u32(const uint32_t *data, int64_t room, int64_t end, const uint8_t *tokens, int64_t n,
                       const uint64_t *bases, int64_t b, const uint64_t *widths, int64_t w, uint32_t *values,
                       int64_t n2);

/* codes.c */
void k_order_codes(const uint8_t *codes, int64_t n, int64_t bits, const uint8_t *table, int64_t t, uint8_t *ordered,
                   int64_t n2, uint8_t *sizes, int64_t n3, uint8_t *signs, int64_t n4);
int64_t k_count_repeats(const uint64_t *words, int64_t n);
int64_t k_huffman_bits(const uint32_t *counts, int64_t codes, int64_t width, int64_t bits, int64_t total);
void k_turn(uint8_t *ordered, int64_t n, int64_t inner, int64_t at, const uint8_t *flags, int64_t size);
bool k_codes_of(const uint8_t *ordered, int64_t n, int64_t bits, uint8_t *codes, int64_t n2);

/* floats.c */
void k_from_bf16(const uint16_t *words, int64_t n, float *values, int64_t n2);
void k_to_bf16(const float *values, int64_t n, uint16_t *words, int64_t n2);
bool k_all_finite(const float *values, int64_t n);

/* quantizers.c; values, or codes, come in groups of the same width, the last of which may be cut */
void k_widen_ranges(const float *values, int64_t n, int64_t width, float *low, int64_t groups, float *high,
                    int64_t groups2);
void k_encode_linear(const float *values, int64_t n, int64_t width, const float *scale, int64_t groups,
                     const uint8_t *zero, int64_t groups2, int64_t least, int64_t most, uint8_t *codes, int64_t n2);
void k_decode_linear(const uint8_t *codes, int64_t n, int64_t width, const float *scale, int64_t groups,
                     const uint8_t *zero, int64_t groups2, int64_t most, float *values, int64_t n2);
void k_encode_levels(const float *values, int64_t n, int64_t width, const float *scale, int64_t groups,
                     const float *bounds, int64_t count, const uint8_t *starts, int64_t halves, const uint8_t *table,
                     int64_t levels, int64_t sign, uint8_t *codes, int64_t n2);
void k_decode_levels(const uint8_t *codes, int64_t n, int64_t width, const float *scale, int64_t groups,
                     const float *table, int64_t levels, float *values, int64_t n2);
void k_add_to_bins(const float *values, int64_t n, int64_t *counts, int64_t bins, double *sums, int64_t bins2);

/* errors.c */
void k_compare__u16(const uint16_t *x, int64_t n, const uint16_t *y, int64_t n2, int64_t first, int64_t width,
                    double *sums, int64_t s, int64_t *counts, int64_t c, double *errors, int64_t rows, double *norms,
                    int64_t rows2);
void k_compare__f32(const float *x, int64_t n, const float *y, int64_t n2, int64_t first, int64_t width, double *sums,
                    int64_t s, int64_t *counts, int64_t c, double *errors, int64_t rows, double *norms, int64_t rows2);
void k_compare__f64(const double *x, int64_t n, const double *y, int64_t n2, int64_t first, int64_t width,
                    double *sums, int64_t s, int64_t *counts, int64_t c, double *errors, int64_t rows, double *norms,
                    int64_t rows2);

/* cells.c */
void k_cell_classes(const float *low, int64_t n, const float *high, int64_t n2, uint8_t *classes, int64_t n3);
void k_overlapping_classes(const float *low, int64_t n, const float *high, int64_t n2, uint8_t *classes, int64_t n3);
void k_find_parts(const float *values, int64_t n, const float *low, int64_t n2, const float *high, int64_t n3,
                  const uint8_t *classes, int64_t n4, uint8_t *parts, int64_t n5);
void k_narrow(const uint8_t *parts, int64_t n, const uint8_t *classes, int64_t n2, float *low, int64_t n3, float *high,
              int64_t n4);
int64_t k_find_ends(const float *low, int64_t n, const float *high, int64_t n2, int64_t start, int64_t length,
                    int64_t *found, int64_t room);
void k_narrow_ends(const int64_t *found, int64_t n, const float *values, int64_t m, const float *bounds, int64_t runs,
                   int64_t two, int64_t start, int64_t length, const float *low, int64_t m2, const float *high,
                   int64_t m3, float *ends, int64_t two2, int64_t n2);
int64_t k_sum_logs(const int64_t *numbers, int64_t n);
void k_cell_costs__u16(const uint16_t *words, int64_t n, const int32_t *low, int64_t n2, const int32_t *high,
                       int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset, int64_t fine, int64_t *counts,
                       int64_t n4);
void k_cell_costs__u32(const uint32_t *words, int64_t n, const int32_t *low, int64_t n2, const int32_t *high,
                       int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset, int64_t fine, int64_t *counts,
                       int64_t n4);
int64_t k_encode_cells__u16(const uint16_t *words, int64_t n, const int32_t *low, int64_t n2, const int32_t *high,
                            int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset, int64_t fine,
                            uint32_t *entries, int64_t n4, uint8_t *outside, int64_t n5, uint32_t *data, int64_t room);
int64_t k_encode_cells__u32(const uint32_t *words, int64_t n, const int32_t *low, int64_t n2, const int32_t *high,
                            int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset, int64_t fine,
                            uint32_t *entries, int64_t n4, uint8_t *outside, int64_t n5, uint32_t *data, int64_t room);
int64_t k_encode_entries(const uint32_t *entries, int64_t n, uint16_t *words, int64_t room, uint64_t *states,
                         int64_t lanes);
bool k_decode_cells__u16(const uint16_t *coded, int64_t room, int64_t end, uint64_t *states, int64_t lanes,
                         const uint32_t *data, int64_t room2, int64_t size, const int32_t *low, int64_t n2,
                         const int32_t *high, int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset,
                         int64_t fine, uint16_t *words, int64_t n);
bool k_decode_cells__u32(const uint16_t *coded, int64_t room, int64_t end, uint64_t *states, int64_t lanes,
                         const uint32_t *data, int64_t room2, int64_t size, const int32_t *low, int64_t n2,
                         const int32_t *high, int64_t n3, int64_t mantissa, int64_t exponents, int64_t offset,
                         int64_t fine, uint32_t *words, int64_t n);

/* differences.c */
void k_differences__u8(const uint8_t *words, int64_t n, const uint8_t *reference, int64_t n2, int64_t sign, int64_t
                       mantissa, const int64_t *curve, int64_t knots, uint32_t *sizes, int64_t n3, uint8_t *negative,
                       int64_t n4);
void k_differences__u16(const uint16_t *words, int64_t n, const uint16_t *reference, int64_t n2, int64_t sign, int64_t
                        mantissa, const int64_t *curve, int64_t knots, uint32_t *sizes, int64_t n3, uint8_t *negative,
                        int64_t n4);
void k_differences__u32(const uint32_t *words, int64_t n, const uint32_t *reference, int64_t n2, int64_t sign, int64_t
                        mantissa, const int64_t *curve, int64_t knots, uint32_t *sizes, int64_t n3, uint8_t *negative,
                        int64_t n4);
void k_apply_differences__u8(const uint32_t *sizes, int64_t n2, const uint8_t *tokens, int64_t n3, const uint8_t
                             *reference, int64_t n4, int64_t sign, int64_t mantissa, const int64_t *curve, int64_t
                             knots, uint8_t *words, int64_t n);
void k_apply_differences__u16(const uint32_t *sizes, int64_t n2, const uint8_t *tokens, int64_t n3, const uint16_t
                              *reference, int64_t n4, int64_t sign, int64_t mantissa, const int64_t *curve, int64_t
                              knots, uint16_t *words, int64_t n);
void k_apply_differences__u32(const uint32_t *sizes, int64_t n2, const uint8_t *tokens, int64_t n3, const uint32_t
                              *reference, int64_t n4, int64_t sign, int64_t mantissa, const int64_t *curve, int64_t
                              knots, uint32_t *words, int64_t n);
void k_add_sizes__u8(const uint32_t *sizes, int64_t n, const uint8_t *reference, int64_t n2, int64_t low, int64_t
                     mantissa, const double *spacings, int64_t exponents, int64_t inner, int64_t at, int64_t most,
                     int64_t skip, double *sums, int64_t size, int64_t *counts, int64_t size2);
void k_add_sizes__u16(const uint32_t *sizes, int64_t n, const uint16_t *reference, int64_t n2, int64_t low, int64_t
                      mantissa, const double *spacings, int64_t exponents, int64_t inner, int64_t at, int64_t most,
                      int64_t skip, double *sums, int64_t size, int64_t *counts, int64_t size2);
void k_add_sizes__u32(const uint32_t *sizes, int64_t n, const uint32_t *reference, int64_t n2, int64_t low, int64_t
                      mantissa, const double *spacings, int64_t exponents, int64_t inner, int64_t at, int64_t most,
                      int64_t skip, double *sums, int64_t size, int64_t *counts, int64_t size2);
void k_less_exponents__u8(uint8_t *contexts, int64_t n2, const uint8_t *reference, int64_t n, int64_t low, int64_t
                          mantissa, int64_t least, int64_t last, int64_t shift);
void k_less_exponents__u16(uint8_t *contexts, int64_t n2, const uint16_t *reference, int64_t n, int64_t low, int64_t
                           mantissa, int64_t least, int64_t last, int64_t shift);
void k_less_exponents__u32(uint8_t *contexts, int64_t n2, const uint32_t *reference, int64_t n, int64_t low, int64_t
                           mantissa, int64_t least, int64_t last, int64_t shift);
void k_size_tokens(const uint32_t *sizes, int64_t n, const uint8_t *negative, int64_t n2, uint8_t *tokens, int64_t n3);
void k_count_tokens(const uint8_t *tokens, int64_t n, const uint8_t *contexts, int64_t m, uint32_t *counts, int64_t
                    many, int64_t width);
void k_add_product(const double *left, int64_t rows, int64_t terms, const double *right, int64_t terms2, int64_t
                   columns, double *out, int64_t rows2, int64_t columns2);
void k_eliminate(double *matrix, int64_t size, int64_t size2, double *least, int64_t size3, int64_t *rows, int64_t
                 size4, int64_t *bits, int64_t ranks);

/* trellis.c */
void k_trellis_search(const float *values, int64_t n, float scale, const uint8_t *weights, int64_t m, int64_t paths,
                      int64_t states, int32_t *levels, int64_t n2, uint8_t *scratch, int64_t size);
void k_survey(const float *values, int64_t n, float scale, const int32_t *levels, int64_t n2, int64_t *lengths,
              int64_t l, int64_t *counts, int64_t c, int64_t *sums, int64_t c2);
void k_tokens_of(const int32_t *levels, int64_t n, int64_t shift, uint8_t *tokens, int64_t n2);
void k_contexts_of(const int32_t *levels, int64_t n, const uint8_t *classes, int64_t m, const uint8_t *tokens, int64_t
                   n2, uint8_t *contexts, int64_t n3, uint32_t *counts, int64_t many, int64_t width);
int64_t k_fit_tables(const uint32_t *counts, int64_t contexts, int64_t width, const uint32_t *costs, int64_t parities,
                     int64_t tokens, int64_t s, int64_t c, const uint32_t *coarse, int64_t p2, int64_t t2, int64_t s2,
                     int64_t c2, uint8_t *shapes, int64_t n, uint8_t *scales, int64_t n2);
void k_values_of(const uint8_t *tokens, int64_t n, const uint32_t *sizes, int64_t n2, float step, float *values,
                 int64_t n3);
void k_logarithms(const int64_t *numbers, int64_t n, int64_t *logs, int64_t n2);
void k_magnitudes(const float *values, int64_t n, float scale, uint32_t *words, int64_t n2);
bool k_trellis_decode__u8(const uint16_t *words, int64_t room, int64_t end, uint64_t *states, int64_t lanes, const
                          uint8_t *classes, int64_t m, const uint8_t *slots, int64_t many, int64_t slot_count, const
                          uint64_t *entries, int64_t many2, int64_t width, int64_t bits, const uint8_t *follow,
                          int64_t f, uint8_t *path, int64_t paths, const uint8_t *values, int64_t v, uint8_t *tokens,
                          int64_t n, uint8_t *out, int64_t n2);
bool k_trellis_decode__u16(const uint16_t *words, int64_t room, int64_t end, uint64_t *states, int64_t lanes, const
                           uint8_t *classes, int64_t m, const uint8_t *slots, int64_t many, int64_t slot_count, const
                           uint64_t *entries, int64_t many2, int64_t width, int64_t bits, const uint8_t *follow,
                           int64_t f, uint8_t *path, int64_t paths, const uint16_t *values, int64_t v, uint8_t
                           *tokens, int64_t n, uint16_t *out, int64_t n2);
bool k_trellis_decode__u32(const uint16_t *words, int64_t room, int64_t end, uint64_t *states, int64_t lanes, const
                           uint8_t *classes, int64_t m, const uint8_t *slots, int64_t many, int64_t slot_count, const
                           uint64_t *entries, int64_t many2, int64_t width, int64_t bits, const uint8_t *follow,
                           int64_t f, uint8_t *path, int64_t paths, const uint32_t *values, int64_t v, uint8_t
                           *tokens, int64_t n, uint32_t *out, int64_t n2);
bool k_trellis_decode__u64(const uint16_t *words, int64_t room, int64_t end, uint64_t *states, int64_t lanes, const
                           uint8_t *classes, int64_t m, const uint8_t *slots, int64_t many, int64_t slot_count, const
                           uint64_t *entries, int64_t many2, int64_t width, int64_t bits, const uint8_t *follow,
                           int64_t f, uint8_t *path, int64_t paths, const uint64_t *values, int64_t v, uint8_t
                           *tokens, int64_t n, uint64_t *out, int64_t n2);
void k_look_up__u8(const uint8_t *tokens, int64_t n, const uint8_t *contexts, int64_t n2, const uint8_t *values,
                   int64_t v, uint8_t *out, int64_t n3);
void k_look_up__u16(const uint8_t *tokens, int64_t n, const uint8_t *contexts, int64_t n2, const uint16_t *values,
                    int64_t v, uint16_t *out, int64_t n3);
void k_look_up__u32(const uint8_t *tokens, int64_t n, const uint8_t *contexts, int64_t n2, const uint32_t *values,
                    int64_t v, uint32_t *out, int64_t n3);
void k_look_up__u64(const uint8_t *tokens, int64_t n, const uint8_t *contexts, int64_t n2, const uint64_t *values,
                    int64_t v, uint64_t *out, int64_t n3);
void k_moments__f32(const float *values, int64_t n, double *found, int64_t two);
void k_moments__f64(const double *values, int64_t n, double *found, int64_t two);
void k_add_along(const uint32_t *words, int64_t n, int64_t inner, int64_t at, int64_t *sums, int64_t size);

/* planes.c */
void k_split_bfloat(const uint16_t *words, int64_t n, uint8_t *high, int64_t n2, uint8_t *low, int64_t n3);
void k_merge_bfloat(const uint8_t *high, int64_t n, const uint8_t *low, int64_t n2, uint16_t *words, int64_t n3);
void k_split__u16(const uint16_t *words, int64_t n, uint8_t *high, int64_t n2, uint8_t *low, int64_t n3);
void k_split__u32(const uint32_t *words, int64_t n, uint16_t *high, int64_t n2, uint16_t *low, int64_t n3);
void k_split__u64(const uint64_t *words, int64_t n, uint32_t *high, int64_t n2, uint32_t *low, int64_t n3);
void k_merge__u16(const uint8_t *high, int64_t n, const uint8_t *low, int64_t n2, uint16_t *words, int64_t n3);
void k_merge__u32(const uint16_t *high, int64_t n, const uint16_t *low, int64_t n2, uint32_t *words, int64_t n3);
void k_merge__u64(const uint32_t *high, int64_t n, const uint32_t *low, int64_t n2, uint64_t *words, int64_t n3);
int64_t k_fold(const uint8_t *plane, int64_t n, int64_t base, int64_t usual, uint8_t *folded, int64_t pairs,
               uint32_t *where, int64_t room);
void k_unfold(const uint8_t *folded, int64_t pairs, int64_t base, uint8_t *plane, int64_t n);
void k_keep_memory(void);
