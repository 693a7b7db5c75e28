"""Chooses how a unit is coded: in one place, for writing, reading back, reading and predicting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from bale.compressors.base import Quantizer
from bale.engine.coding.blocks import BlockCoding
from bale.engine.coding.encoded import Encoded
from bale.engine.coding.exact import ExactCoding, empty
from bale.engine.coding.stored import DecodeTask, Stored
from bale.engine.coding.task import Task, Work
from bale.engine.coding.whole import WholeCoding
from bale.engine.run import Job


class Coding(Protocol):
    """A way to code a unit: an encoder and its decoder."""

    def jobs(self, work: Work) -> Iterator[Job[Encoded]]:
        """The jobs that encode it, in the order in which their parts are stored; `Refused` from here or from a job."""

    def decode_tasks(self, stored: Stored) -> list[DecodeTask]:
        """The tasks that decode it, in the order of its elements."""


def coding_of(task: Task) -> Coding:
    """Exact where nothing is transformed; quantized in blocks where it is long; else as a whole."""
    transforms = task.pipeline.transforms
    if not transforms:
        return ExactCoding(task)
    if len(transforms) == 1 and isinstance(transforms[0], Quantizer) and task.spec.elements > task.limit:
        return BlockCoding(task, transforms[0])
    return WholeCoding(task)


def decode_tasks(task: Task, stored: Stored) -> list[DecodeTask]:
    """The tasks that decode a unit, of which there is one even where it has no elements."""
    return coding_of(task).decode_tasks(stored) if task.spec.elements else [empty(task.spec)]
