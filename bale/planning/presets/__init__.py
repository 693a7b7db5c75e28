"""Presets: recipes that come with bale, each a file of its own beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from bale.errors import UsageError

_FOLDER = Path(__file__).parent
_ORDER = (
    "balanced",
    "small",
    "tiny",
    "near-lossless",
    "training-checkpoint",
    "export-int4",
    "export-int8",
)


@dataclass(frozen=True)
class Preset:
    """A recipe by its name."""

    name: str

    @property
    def path(self) -> Path:
        """Its file."""
        return _FOLDER / f"{self.name}.toml"

    @cached_property
    def text(self) -> str:
        """What the file says."""
        return self.path.read_text(encoding="utf-8")

    @property
    def summary(self) -> str:
        """Its first line, which says what it is for."""
        return self.text.partition("\n")[0].removeprefix("# ")


def all_presets() -> tuple[Preset, ...]:
    """Those that there are."""
    return tuple(map(Preset, _ORDER))


def find_preset(name: str) -> Preset:
    """A preset by its name. Raises `UsageError` for one that does not exist."""
    if name not in _ORDER:
        raise UsageError(f"there is no preset {name!r}", near_presets(name))
    return Preset(name)


def is_preset(name: str) -> bool:
    """Whether a name is that of a preset."""
    return name in _ORDER


def near_presets(name: str) -> str:
    """A hint on the presets that may be meant by a name."""
    near = get_close_matches(name.lower(), _ORDER)
    return f"did you mean the preset {' or '.join(near)}?" if near else f"presets are {', '.join(_ORDER)}"
