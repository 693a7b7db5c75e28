"""Running the program in process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bale.cli import render
from bale.cli.app import run


@dataclass(frozen=True)
class Outcome:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def result(self) -> Any:
        """The only entry of a verb that takes several paths."""
        (entry,) = self.json["results"]
        return entry

    def failed(self, code: int, *words: str) -> None:
        """Assert one clear line of error, this exit code, and that the line holds these words."""
        assert self.code == code, self
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("bale: error: ")
        assert "Traceback" not in self.err
        for word in words:
            assert word in lines[0]


Bale = Callable[..., Outcome]


@pytest.fixture
def bale(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bale:
    monkeypatch.setattr(render.Printer, "_say_compiling", lambda self: None)  # which tests find compiled is chance

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call
