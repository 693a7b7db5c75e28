"""Where the keys of a TOML text stand."""

from __future__ import annotations

import tomllib

import pytest

from bale.planning.lines import Lines

TEXT = r'''# [[rule]]
top = [ # [[rule]]
 "[[rule]]",
 [1], { a = "}" },
]
[[rule]]
name = "[[rule]] # = x"
why = """
[[rule]]
nmae = 3 \""" "x"""""
  [[ "rule" ]]   # hi ]
'name'='[a'
"pipe\u006cine" = '''
TEXT += """'''
[[rule]]''' # '''
a.b = {x = 1,
y = "}"}
[rule.sub]
z = 1
[budget]
bits = [
]
[[rule]]
name = ''"""


def test_lines_of_keys_whatever_is_in_strings_and_brackets() -> None:
    text = TEXT.replace('{x = 1,\ny = "}"}', '[1,\n"]"]')  # inline tables of several lines are TOML 1.1
    assert len(tomllib.loads(text)["rule"]) == 3
    lines = Lines(text)
    expected = {
        ("", 0, "top"): "top =",
        ("rule", 1, ""): "[[rule]]",
        ("rule", 1, "name"): "name =",
        ("rule", 1, "why"): "why =",
        ("rule", 2, ""): '  [[ "rule" ]]',
        ("rule", 2, "name"): "'name'=",
        ("rule", 2, "pipeline"): '"pipe',
        ("rule", 2, "a"): "a.b",
        ("rule", 2, "sub"): "[rule.sub]",
        ("budget", 1, "bits"): "bits = [",
        ("rule", 3, ""): "[[rule]]",
        ("rule", 3, "name"): "name = ''",
    }
    for place, begin in expected.items():
        found = lines.of(*place)
        assert found is not None
        assert text.splitlines()[found - 1].startswith(begin), place
    assert [lines.of("rule", number) for number in (1, 2, 3)] == [6, 11, 22]


@pytest.mark.parametrize(
    ("text", "place", "line"),
    [
        ("\n[[rule]]\nname = 'a'", ("rule", 1, "nowhere"), 2),
        ("\nrule = [\n{name = 'a'}]", ("rule", 1, "name"), 2),
        ("\nbudget.bits = 3", ("budget", 1, "bits"), 2),
        ("\n[budget]", ("budget", 1, "bits"), 2),
        ("\n[[rules]]\n", ("", 0, "rules"), 2),
        ("a = 1\r\nb = '''\r\n'''\r\nc = 2\r\n", ("", 0, "c"), 4),
        ("", ("rule", 1, "name"), None),
        ("a = 1", ("rule", 1, "name"), None),
    ],
)
def test_what_has_no_line_of_its_own_has_that_of_what_it_lies_in(
    text: str, place: tuple[str, int, str], line: int | None
) -> None:
    tomllib.loads(text)
    assert Lines(text).of(*place) == line
