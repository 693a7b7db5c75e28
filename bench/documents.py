"""English to train models on and to judge them by: sentences of docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def torch_documents() -> Iterator[list[str]]:
    """The sentences of each docstring of torch that has two or more; none comes twice.

    torch.testing is left out: it holds syntax that not every Python can read.
    """
    import torch

    root = Path(torch.__file__).parent
    modules = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] != "testing"]
    return documents_of(sorted(modules, key=lambda path: path.relative_to(root).as_posix()))


def documents_of(modules: Iterable[Path]) -> Iterator[list[str]]:
    """The sentences of each docstring of modules that has two or more; none comes twice."""
    seen: set[str] = set()
    for path in modules:
        for node in ast.walk(ast.parse(path.read_bytes())):
            text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            paragraphs = re.split(r"\n\s*\n", text) if text else ()
            flat = (" ".join(paragraph.split()) for paragraph in paragraphs)
            sentences = [sentence for each in flat for sentence in SENTENCE.split(each) if is_english(sentence)]
            fresh = list(dict.fromkeys(sentence for sentence in sentences if sentence not in seen))
            seen.update(fresh)
            if len(fresh) > 1:
                yield fresh


def is_english(text: str) -> bool:
    """Whether it looks like a sentence, and not like code or a table."""
    words = text.split()
    letters = sum(word.isalpha() for word in words)
    return 8 <= len(words) <= 60 and text[0].isupper() and text[-1] in ".!?" and letters > 0.7 * len(words)
