"""Codecs that write arrays as bytes: bit packing, Huffman codes, rANS; and zstd, which makes bytes fewer."""
