"""What a section of the page of benchmarks is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.common import ROOT
from bench.peers import venvs

NEEDS = {
    "models": "the checkpoints that `make fetch` brings",
    "finetuned": "the fine-tunes that `make finetune` makes",
    "lossless": "the virtual environment of lossless peers, which is made",
    "quantizers": "the virtual environment of quantizers, which is made",
    "formats": "the virtual environment of libraries of formats, which is made; a gigabyte and a half",
    "zstd": "the program zstd; its columns are left out without it",
}
"""All that a section can need, by the words of `Section.needs`."""


@dataclass(frozen=True)
class Run:
    """Where everything is, and how much of it is measured.

    Attributes
    ----------
    models, finetuned : Path
        Folders of checkpoints and of fine-tunes.
    peers, others, libraries : Path
        Folders of the virtual environments of lossless peers, of quantizers, and of libraries of formats.
    large : bool
        Whether files of several gigabytes are measured too.
    quick : bool
        Whether files are small and rounds few, to try a bench whose figures do not matter.
    plots : Path
        The folder that plots are written to.
    """

    models: Path = ROOT / ".models"
    finetuned: Path = ROOT / ".finetuned"
    peers: Path = ROOT / ".venv-peers"
    others: Path = ROOT / ".venv-peers-quant"
    large: bool = False
    quick: bool = False
    plots: Path = ROOT / "docs"
    libraries: Path = ROOT / ".venv-formats"

    @cached_property
    def lossless(self) -> Path:
        """The python of the lossless peers, with all of them installed."""
        return venvs.lossless(self.peers).python()

    @cached_property
    def quantizers(self) -> Path:
        """The python of the quantizers, with all of them installed."""
        return venvs.quantizers(self.others).python()

    @cached_property
    def formats(self) -> Path:
        """The python of the libraries of formats, with all of them installed."""
        return venvs.formats(self.libraries).python()

    def rounds(self, usual: int) -> int:
        """How often something is measured."""
        return 1 if self.quick else usual


@dataclass(frozen=True)
class Section:
    """A part of the page that is measured alone.

    Attributes
    ----------
    name, title : str
        What it is called on the command line, and on the page.
    needs : tuple of str
        Keys of `NEEDS`.
    measure : callable
        Gives its Markdown: paragraphs and tables, without the title.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    measure: Callable[[Run], str]
