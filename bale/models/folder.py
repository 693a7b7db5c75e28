"""The folder of a transformers model: its config and its tokenizer."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bale.errors import BaleError, SourceError, UsageError
from bale.io.storage.files import check_readable

LOCAL = {"local_files_only": True, "trust_remote_code": False}
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "*.bpe.model")


def check_model(folder: Path) -> None:
    """Raise `SourceError` for a folder that has no config or no tokenizer; their contents are not read."""
    check_readable(folder)
    if not os.path.isdir(folder):
        raise SourceError(f"{folder} is not a folder", "name the folder of a transformers model")
    if not os.path.isfile(folder / "config.json"):
        raise SourceError(f"{folder} has no config.json", "name the folder of a transformers model")
    if not any(path.is_file() for pattern in _VOCABULARIES for path in folder.glob(pattern)):
        raise SourceError(f"{folder} has no tokenizer", "put its files, like tokenizer.json, beside its config")


def check_installed() -> None:
    """Raise `UsageError` when transformers or torch is not installed."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        raise UsageError(
            "models run with transformers and torch, which are not installed",
            "pip install '.[transformers]' in a clone of bale",
        ) from None


def load_config(folder: Path) -> Any:
    """The config in a folder; no code from the folder is run."""
    import transformers

    with explained(f"cannot load the config in {folder}"):
        return transformers.AutoConfig.from_pretrained(folder, **LOCAL)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder; no code from the folder is run."""
    import transformers

    with explained(f"cannot load the tokenizer in {folder}"):
        return transformers.AutoTokenizer.from_pretrained(folder, **LOCAL)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn whatever transformers raises into a `SourceError`; its other output is discarded."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (MemoryError, BaleError):
            raise
        except Exception as problem:
            said = next(iter(str(problem).strip().splitlines()), "")
            raise SourceError(f"{what}: {type(problem).__name__}{said and f': {said}'}") from None
