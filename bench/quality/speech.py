"""Speech for the bench of quality: text spoken by the eSpeak NG library that a package ships."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

RATE = 16_000
_RETRIEVE = 1  # samples are handed over, not played
_UTF8 = 1


def spoken(texts: Sequence[str], voice: str = "en-us") -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Each text as samples at `RATE`, between -1 and 1."""
    from math import gcd

    from scipy.signal import resample_poly

    library, rate = _library()
    if library.espeak_SetVoiceByName(voice.encode()):
        raise RuntimeError(f"eSpeak NG has no voice {voice}")
    pieces: list[Any] = []

    def take(samples: Any, count: int, events: int) -> int:
        if count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).astype(np.float32) / 2**15)
        return 0

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    callback = kind(take)
    library.espeak_SetSynthCallback(callback)
    found = []
    for text in texts:
        pieces.clear()
        data = text.encode() + b"\0"
        library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 0, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        common = gcd(RATE, rate)
        found.append(resample_poly(np.concatenate(pieces), RATE // common, rate // common).astype(np.float32))
    return found


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    """The library and its sampling rate. It is made ready once: a second time it waits for itself for ever."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_RETRIEVE, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    if rate <= 0:
        raise RuntimeError("eSpeak NG cannot speak")
    return library, rate
