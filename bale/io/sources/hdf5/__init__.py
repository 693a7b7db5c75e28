"""HDF5 files (``.h5``, ``.weights.h5``): contiguous datasets are units, found without the HDF5 library.

After the HDF5 File Format Specification 3.0. Followed are superblocks 0 to 3 at the first byte, with addresses and
lengths of 8 bytes; object headers 1 and 2; groups as symbol tables, as link messages and as fractal heaps; contiguous
layouts 1 to 4 of integers, IEEE floats, enumerations of them, bfloat16 as Keras writes it; of either byte order, at
any alignment. Names are the paths that h5py gives, without the first slash.

Not followed, and kept exactly as a part of the skeleton: datasets in chunks (so all that are filtered, compressed or
checked by Fletcher-32), compact, virtual and external ones, those of texts, compounds, references, arrays and of
committed types. Soft and external links are other names of something, and passed over. User blocks, files split over
several, and addresses of other lengths make a file opaque.
"""
