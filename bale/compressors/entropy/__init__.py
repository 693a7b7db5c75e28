"""Bytes and small whole numbers in fewer bytes: bit packing, Huffman coding, rANS, zstd."""
