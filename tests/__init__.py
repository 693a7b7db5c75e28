"""The tests, each of whose processes computes with one thread of BLAS: small matrices are slower with more."""

import os

BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
for _name in BLAS:
    os.environ.setdefault(_name, "1")


def as_users_have_it() -> dict[str, str]:
    """The environment without these limits, for a process that is to meet what users meet."""
    return {key: value for key, value in os.environ.items() if key not in BLAS}
