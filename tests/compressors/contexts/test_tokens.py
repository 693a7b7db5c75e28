import numpy as np

from bale.compressors.contexts.tokens import Layout, Tokens


def test_tokens_by_hand():
    # Exponents 3 and 4 of an E4M3 byte, the second with two bits of the mantissa: 0, 1 outside; 3; 4 in quarters.
    tokens = Tokens(Layout(8, 3), 3, np.array([0, 2], np.uint8), sign=False, zero=False)
    bases, widths = tokens.runs()
    assert tokens.count == 6
    assert bases[:6].tolist() == [0, 2 * 24, 2 * 32, 2 * 34, 2 * 36, 2 * 38]  # the sign stands at the bottom
    assert widths[:6].tolist() == [8, 4, 2, 2, 2, 2]
    table = tokens.table(bases, widths)
    assert [int(table[2 * word + 1]) for word in (23, 24, 31, 32, 33, 34, 39, 40)] == [0, 1, 1, 2, 2, 3, 5, 0]
