"""Where keys and tables stand in a TOML text, for messages: `tomllib` gives values alone."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'  # strings, the longer ones first
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{}\n=]"
    r"|[^\[\]{}\n=\"'#]+",
    re.DOTALL,
)


class Lines:
    """The lines of a TOML text that can be parsed.

    Only what begins a line outside of brackets and strings is found: of a table that is written within another value,
    `of` gives the line of that value.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, int, str], int] = {}
        table, number, counts = "", 0, Counter[str]()
        for line, statement, is_header in _statements(text):
            first, *within = _keys(statement.strip("[] \t"))
            if not is_header:
                self._lines.setdefault((table, number, first), line)
            elif within:  # a table within the last one of a name, whose own keys are not told apart
                self._lines.setdefault((first, counts[first], within[0]), line)
                table, number = statement, 0
            else:
                table, number = first, counts[first] + 1
                counts[first] = number
                self._lines[table, number, ""] = line

    def of(self, table: str = "", number: int = 0, key: str = "") -> int | None:
        """The line of a key of the n-th table of a name, or else that of the table; None where there is neither.

        Parameters
        ----------
        table : str
            Its name; that of the keys before all tables is empty.
        number : int
            Its place among those of its name, from 1 on.
        key : str
            A key in it; empty for the table itself.
        """
        places = ((table, number, key), (table, number, ""), ("", 0, table), (key, 1, "") if not table else ("", 0, ""))
        return next((self._lines[place] for place in places if place in self._lines), None)


def _statements(text: str) -> list[tuple[int, str, bool]]:
    """Line and text of each header of a table, and of each key up to its equals sign."""
    found: list[tuple[int, str, bool]] = []
    line, depth, begun, behind = 1, 0, "", False  # `behind` the equals sign
    is_header = False
    for token in _TOKEN.findall(text.replace("\r\n", "\n")):
        if token == "\n" and not depth:
            if is_header:
                found.append((line, begun, True))
            begun, behind, is_header = "", False, False
        elif behind:
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token, 0)
        elif token == "=" and not is_header:
            found.append((line, begun, False))
            behind = True
        elif token[0] != "#":
            is_header = is_header or (token == "[" and not begun.strip())
            begun += token
        line += token.count("\n")
    return [*found, (line, begun, True)] if is_header else found


def _keys(text: str) -> Iterator[str]:
    """The parts of a key, unquoted."""
    found = tomllib.loads(f"{text} = 0")
    while found:
        ((key, found),) = found.items()
        yield key
