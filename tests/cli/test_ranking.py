"""The worst first, what is equal or lossless in one line, and tables that fit a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from bale.cli import ranking, render
from bale.cli.render import columns, harmless, middle, prose, table
from tests.cli.conftest import Bale
from tests.making import weights, write

NAMES = [f"model.layers.{index}.self_attention.query_key_value.weight" for index in range(24)]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """24 matrices of which 22 are off, the last ones most, and vectors that are equal."""
    equal = {f"{index}.norm.weight": weights(16, seed=index) for index in range(5)}
    a = {name: weights(8, 8, seed=index) for index, name in enumerate(NAMES)}
    b = {name: values * np.float32(1 + (index // 2) / 64) for index, (name, values) in enumerate(a.items())}
    return write(tmp_path / "a.safetensors", a | equal), write(tmp_path / "b.safetensors", b | equal)


@pytest.fixture
def archive(tmp_path: Path, bale: Bale) -> tuple[Path, Path]:
    """Twelve lossy matrices, the first of which are worst, and three lossless ones."""
    tensors = {f"{index:02}.weight": weights(64, 64 + 32 * (index % 2), seed=index) for index in range(15)}
    source = write(tmp_path / "model.safetensors", tensors)
    rules = [f"{index:02}.weight=int:bits={2 + index // 2}" for index in range(12)]
    stored = tmp_path / "model.bale"
    assert bale("compress", source, "-o", stored, *(word for rule in rules for word in ("--rule", rule))).code == 0
    return source, stored


def rows(text: str) -> list[str]:
    """First cells of all lines of a table but its head."""
    return [line.split()[0] for line in text.splitlines()[1:] if "weight" in line.split()[0]]


def test_compare_shows_the_worst_first_and_folds_what_is_equal(bale: Bale, pair: tuple[Path, Path]) -> None:
    said = bale("compare", *pair)
    assert said.code == 0
    shown = rows(said.out)
    assert len(shown) == 22
    assert {*shown[:2]} == {*NAMES[22:]}
    assert {*shown[-2:]} == {*NAMES[2:4]}
    assert said.out.splitlines()[-1] == "7 of 29 tensors equal, bit for bit"
    assert len(rows(bale("compare", *pair, "--all").out)) == 29
    few = bale("compare", *pair, "--top", "3").out.splitlines()
    assert rows("\n".join(few)) == shown[:3]
    assert few[-2:] == ["... 19 more; --all instead of --top 3", "7 of 29 tensors equal, bit for bit"]
    document = bale("compare", *pair, "--top", "3", "--json").json
    assert [row["name"] for row in document["tensors"]] == [*NAMES, *(f"{index}.norm.weight" for index in range(5))]
    assert document["summary"]["worst_tensor"] == shown[0]
    assert bale("compare", pair[0], pair[0], "--json").json["summary"]["worst_tensor"] is None


def test_what_differs_in_bits_alone_is_worse_than_what_is_equal(bale: Bale, tmp_path: Path) -> None:
    a = write(tmp_path / "a", {"equal": weights(4), "zero": np.array([0.0], "<f4")})
    b = write(tmp_path / "b", {"equal": weights(4), "zero": np.array([-0.0], "<f4")})
    assert bale("compare", a, b, "--json").json["summary"]["worst_tensor"] == "zero"
    assert bale("compare", a, b, "--max-error", "0").err.endswith("zero (a relative error of 0)\n")
    assert bale("compare", a, b, "--max-error", "1e-9").code == 0


def test_orders(bale: Bale, archive: tuple[Path, Path]) -> None:
    source, stored = archive
    for command in (["compare", source, stored], ["inspect", stored], ["verify", stored, "--against", source]):
        shown = {order: rows(bale(*command, "--sort", order).out) for order in ranking.Sort}
        assert rows(bale(*command).out) == shown["error"]
        assert {*shown["error"][:2]} == {"00.weight", "01.weight"}
        assert shown["name"] == sorted(shown["error"])
        assert {*shown["size"][:6]} == {f"{index:02}.weight" for index in range(1, 12, 2)}
        assert shown["size"][:2] == ["01.weight", "03.weight"]
        found = bale(*command, "--json")
        document = found.json if command[0] == "compare" else found.result
        order = [row["name"] for row in document.get("lossy_tensors", document["tensors"])]
        assert shown["file"] == [name for name in order if name in shown["error"]]
        bale(*command, "--sort", "errors").failed(2, "--sort")
        bale(*command, "--top", "0").failed(2, "--top")
        bale(*command, "--top", "3", "--all").failed(2, "--all", "--top 3", "leave out one")


def test_verbs_cut_alike(bale: Bale, terminal: Bale, tmp_path: Path) -> None:
    """What fits a terminal, where nobody said how much; and never anything in a pipe."""
    source = write(tmp_path / "m.safetensors", {f"{at:02}.weight": weights(64, 64, seed=at) for at in range(23)})
    stored = tmp_path / "m.bale"
    assert bale("compress", source, "-p", "int4", "-o", stored).code == 0
    for command in (["compare", source, stored], ["inspect", stored], ["verify", stored, "--against", source]):
        assert len(rows(bale(*command).out)) == len(rows(terminal(*command, "--all").out)) == 23
        said = terminal(*command).out
        assert len(rows(said)) == 20
        assert "\n... 3 more; --all\n" in said
        for call in (bale, terminal):
            said = call(*command, "--top", "22").out
            assert len(rows(said)) == 22
            assert "\n... 1 more; --all instead of --top 22\n" in said
            assert "more; " not in call(*command, "--top", "23").out


def test_inspect_folds_what_is_lossless_of_a_lossy_archive(bale: Bale, archive: tuple[Path, Path]) -> None:
    source, stored = archive
    said = bale("inspect", stored).out
    assert len(rows(said)) == 12
    document = bale("inspect", stored, "--json").result
    kept = sum(row["stored_bytes"] for row in document["tensors"] if not row["relative_error"])
    assert f"3 tensors lossless: 57.3 kB in {kept / 1000:.1f} kB" in said.splitlines()
    assert len(document["tensors"]) == 15
    everything = bale("inspect", stored, "--all").out
    assert len(rows(everything)) == 15
    assert "tensors lossless" not in everything
    assert bale("inspect", stored, "--top", "2").out.count("\n... 10 more; --all instead of --top 2\n") == 1
    assert rows(bale("inspect", source).out) == [row["name"] for row in document["tensors"]]
    assert bale("compress", source, "-f", "-o", stored).code == 0
    assert rows(bale("inspect", stored).out) == [row["name"] for row in document["tensors"]]


def test_verify_tells_what_loss_has_cost(bale: Bale, archive: tuple[Path, Path]) -> None:
    source, stored = archive
    assert f"{stored}: sound, 12 of 15 tensors lossy, " in bale("verify", stored).out
    said = bale("verify", stored, "--against", source).out.splitlines()
    assert rows("\n".join(said))[:2] == rows(bale("inspect", stored).out)[:2]
    assert len(rows("\n".join(said))) == 12
    assert said[-2] == "3 tensors equal, bit for bit"
    assert f"12 of 15 tensors lossy, as {source} has them" in said[-1]
    assert len(rows(bale("verify", stored, "--against", source, "--all").out)) == 12
    assert len(rows(bale("verify", stored, "--against", source, "--top", "1").out)) == 1
    document = bale("verify", stored, "--against", source, "--json").result
    report = {row["name"]: row for row in bale("inspect", stored, "--json").result["tensors"]}
    assert document["tensors"] == 15
    assert len(document["lossy_tensors"]) == 12
    for row in document["lossy_tensors"]:
        assert list(row) == ["name", "relative_error", "worst_row_error", "snr_db"]
        for key in ("relative_error", "worst_row_error", "snr_db"):
            assert row[key] == pytest.approx(report[row["name"]][key], rel=1e-9)
    assert document["worst_tensor"] == max(report.values(), key=lambda row: row["relative_error"])["name"]


def test_verify_of_an_exact_archive_and_of_a_folder(bale: Bale, tmp_path: Path) -> None:
    for part in ("x", "y"):
        (tmp_path / "m" / part).mkdir(parents=True)
        write(tmp_path / "m" / part / "w.safetensors", {"w": weights(64, 64), part: weights(64, 64, seed=ord(part))})
    assert bale("compress", tmp_path / "m", "-o", tmp_path / "m.bale").code == 0
    assert "4 tensors bit for bit" in bale("verify", tmp_path / "m.bale").out
    assert bale("compress", tmp_path / "m", "-p", "int4", "-o", tmp_path / "l.bale").code == 0
    document = bale("verify", tmp_path / "l.bale", "--against", tmp_path / "m", "--json").result
    names = {row["name"] for row in document["lossy_tensors"]}
    assert names == {"x/w.safetensors:w", "y/w.safetensors:w", "x", "y"}


def test_a_failed_limit_names_the_worst(bale: Bale, pair: tuple[Path, Path]) -> None:
    a, b = pair
    worst = bale("compare", a, b, "--json").json["summary"]["worst_tensor"]
    said = bale("compare", a, b, "--max-error", "0.1")
    assert said.code == 5
    assert said.err == (
        f"bale: error: 10 tensors beyond --max-error 0.1, the worst is {worst} (a relative error of 0.1719)\n"
    )
    said = bale("compare", a, b, "--max-error", "0.16", "--max-row-error", "0.1", "--json")
    assert said.code == 5
    assert (said.json["summary"]["exceeded"], said.json["summary"]["exceeded_rows"]) == (2, 10)
    first, second = said.json["error"]["message"].split("; ")
    assert first.startswith("2 tensors beyond --max-error 0.16, the worst is ")
    assert second.startswith("10 tensors beyond --max-row-error 0.1, the worst is ")
    assert second.endswith("(a row with an error of 0.1719)")


def test_a_limit_for_rows(bale: Bale, tmp_path: Path) -> None:
    x = weights(64, 64)
    x[5] *= 1000
    y = x.copy()
    y[7] = 0
    a, b = write(tmp_path / "a", {"w": x}), write(tmp_path / "b", {"w": y})
    assert bale("compare", a, b, "--max-error", "0.01").code == 0
    assert bale("compare", a, b, "--max-row-error", "1").code == 0
    said = bale("compare", a, b, "--max-row-error", "0.9")
    assert said.code == 5
    assert said.err == "bale: error: 1 tensor beyond --max-row-error 0.9: w (a row with an error of 1)\n"
    assert "all zeros in A" in bale("compare", b, a, "--max-row-error", "1e9").err
    bale("compare", a, b, "--max-row-error", "-1").failed(2, "--max-row-error")


def test_values_that_are_finite_in_one_only(bale: Bale, tmp_path: Path) -> None:
    x = weights(64, 64)
    y = x + np.float32(1)
    z = x.copy()
    z[0, 0] = np.inf
    a, b = write(tmp_path / "a", {"far": x, "inf": x}), write(tmp_path / "b", {"far": y, "inf": z})
    said = bale("compare", a, b, "--max-error", "1e9")
    assert said.code == 5
    assert said.err.endswith("beyond --max-error 1e+09: inf (1 value is finite in one only)\n")
    assert said.out.splitlines()[1].startswith("inf ")
    assert said.out.splitlines()[1].endswith("1 value is finite in one only")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, bale: Bale) -> Bale:
    """The same program whose stdout is a terminal of 60 columns."""

    def call(*arguments: object):
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", "60")
            patch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
            return bale(*arguments)

    return call


def commands(pair: tuple[Path, Path], archive: tuple[Path, Path]) -> list[list[object]]:
    return [
        ["compare", *pair],
        ["compare", *pair, "--all"],
        ["inspect", pair[0]],
        ["inspect", pair[0], "--floor"],
        ["inspect", archive[1]],
        ["inspect", archive[1], "--floor", "--all"],
        ["plan", pair[0], "--rule", "*attention*=svd:error=0.1+int:bits=3,group=4,symmetric=true"],
        ["verify", archive[1]],
        ["verify", archive[1], "--against", archive[0]],
        ["compress", pair[0], "-f", "--rule", "*attention*=int:bits=1,group=8"],
        ["codecs"],
        ["codecs", "int"],
        ["codecs", "trellis"],
    ]


def test_nothing_wraps_on_a_terminal(
    terminal: Bale, bale: Bale, pair: tuple[Path, Path], archive: tuple[Path, Path]
) -> None:
    for command in commands(pair, archive):
        said = terminal(*command)
        assert said.code == 0
        assert max(map(columns, said.out.splitlines())) <= 60, said.out
    assert "…" in terminal("compare", *pair).out
    assert "... 2 more; --all" in terminal("compare", *pair).out


def test_names_that_are_cut_still_differ(terminal: Bale, tmp_path: Path) -> None:
    """What all long names begin and end with goes first; layers and what they are for stay."""
    kinds = [f"self_attn.{each}_proj" for each in "qkvo"] + ["mlp.up_proj", "mlp.down_proj"]
    names = [f"model.language_model.layers.{layer}.{kind}.weight" for layer in range(3) for kind in kinds]
    names += ["model.language_model.embed_tokens.weight", "lm_head.weight"]
    arrays = weights(2, len(names), 2, 9)
    a, b = (
        write(tmp_path / f"{file}.safetensors", dict(zip(names, values, strict=True)))
        for file, values in zip("ab", arrays, strict=True)
    )
    for command in (["compare", a, b, "--all"], ["inspect", a], ["plan", a, "-p", "int4"]):
        lines = terminal(*command).out.splitlines()
        shown = [line.split("  ")[0] for line in lines[1 : 1 + len(names)]]
        assert len(set(shown)) == len(names), shown
        assert "lm_head.weight" in shown
        assert all(line.count("…") <= 3 for line in lines)


def test_names_lose_whole_parts_first() -> None:
    names = ["model.layers.10.mlp.weight", "model.layers.11.mlp.weight", "model.norm", "w"]
    assert render.shortened(names, 30) == names
    assert render.shortened(names, 16) == ["…10.mlp.weight", "…11.mlp.weight", "model.norm", "w"]
    assert render.shortened(names, 10) == ["…10…", "…11…", "model.norm", "w"]
    assert render.shortened(names[:1], 10) == ["model…ight"]
    assert render.shortened(["abcdefgh", "abcdefgi"], 5) == ["ab…gh", "ab…gi"]


def test_a_number_stays_with_its_unit() -> None:
    assert render.prose("it takes 745.0 kB of them", 16) == ["it takes", "  745.0 kB of", "  them"]
    assert render.prose("  about 20.8 dB (28.6 %, more)", 16) == ["  about 20.8 dB", "  (28.6 %, more)"]
    assert render.prose("3 Betas of 4 GBit", 8) == ["3 Betas", "  of 4", "  GBit"]
    assert render.prose("重い 重い 重い", 10) == ["重い 重い", "  重い"]


def test_the_last_lines_fit_too(terminal: Bale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one-of-the-two-checkpoints", "the-other-of-the-two-checkpoints"):
        write(Path(f"{name}.safetensors"), {"w": weights(64, 64)})
    sources = sorted(str(path) for path in Path().iterdir())
    said = [terminal("compress", *sources), terminal("compress", *sources, "--skip-existing", *Path().glob("*.json"))]
    said.append(terminal("decompress", *[f"{each}.bale" for each in sources], "-f"))
    for each in said:
        assert each.code == 0, each
        assert max(map(columns, each.out.splitlines())) <= 60, each.out


def test_in_a_pipe_nothing_is_cut(bale: Bale, pair: tuple[Path, Path], archive: tuple[Path, Path]) -> None:
    for command in commands(pair, archive):
        said = bale(*command)
        assert said.code == 0
        assert "…" not in said.out
    assert max(map(len, bale("compare", *pair).out.splitlines())) > 80
    assert NAMES[0] in bale("inspect", pair[0]).out


def test_notes_stand_below_a_table_on_a_terminal_and_beside_it_in_a_pipe(
    terminal: Bale, bale: Bale, tmp_path: Path
) -> None:
    tensors = {f"{index}.weight": weights(64, 64, seed=index) for index in range(6)}
    vectors = {f"{index}.bias": weights(8, seed=9 + index) for index in range(6)}
    source = write(tmp_path / "m.safetensors", tensors | vectors | {"twin": tensors["0.weight"]})
    assert bale("compress", source, "-p", "svd:rank=2", "-o", f"{source}.bale").code == 0
    for command in (["plan", source, "-p", "svd:rank=2"], ["inspect", f"{source}.bale"]):
        piped = bale(*command)
        assert "notes" in piped.out.splitlines()[0]
        assert "same as" in piped.out
        assert "bale: note: left lossless: 6 tensors" in piped.err
        said = terminal(*command)
        assert said.err == ""
        assert "notes" not in said.out.splitlines()[0]
        notes = said.out[said.out.index("note: ") :].replace("\n  ", " ").splitlines()
        assert all(note.startswith("note: ") for note in notes)
        assert len(notes) <= 4  # not one for each tensor
        assert any(note.startswith("note: left lossless: 6 tensors") for note in notes)
        assert any("0.weight" in note and "twin" in note for note in notes)
        assert "note" not in terminal(*command, "-q").out
        found = terminal(*command, "--json")
        assert (found.json if command[0] == "plan" else found.result)["tensors"]


def test_what_compress_says_stands_below_its_result_on_a_terminal(
    terminal: Bale, bale: Bale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "m.safetensors", {"w": weights(64, 64), "bias": weights(8)})
    monkeypatch.chdir(tmp_path)
    command = ["compress", "m.safetensors", "-f", "-p", "int:bits=1"]
    piped, said = bale(*command), terminal(*command)
    assert "note: " not in piped.out
    assert piped.err.startswith("bale: note: left lossless: 1 tensor")
    assert said.err == ""
    lines = said.out.replace("\n  ", " ").splitlines()
    assert lines[0].startswith("m.safetensors -> ")
    assert [f"bale: {line}" for line in lines[1:]] == piped.err.splitlines()
    assert "note" not in terminal(*command, "-q").out
    assert terminal(*command, "--json").result["notes"]


def test_notes_on_a_terminal_of_stderr_are_as_wide_as_it(
    bale: Bale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "m.safetensors", {"w": weights(64, 64), "bias": weights(8)})
    whole = bale("compress", source, "-p", "int:bits=1").err
    assert max(map(columns, whole.splitlines())) > 60
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(render, "_bar", lambda what, total: nullcontext(lambda name, done, total: None))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    said = bale("compress", source, "-f", "-p", "int:bits=1").err
    assert max(map(columns, said.splitlines())) <= 60
    assert said.replace("\n  ", " ") == whole


def test_a_real_terminal(pair: tuple[Path, Path]) -> None:
    """As wide as it says itself, without an environment variable."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 70, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "bale", "compare", *map(str, pair)]
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # Linux's way of saying that the other end is closed
                break
            if not piece:
                break
            text += piece
    os.close(ours)
    lines = text.decode().splitlines()
    assert process.returncode == 0
    assert 60 < max(map(columns, lines)) <= 70
    assert "…" in lines[1]


def test_texts_are_cut_in_the_middle() -> None:
    assert middle("encoder.layer.0.weight", 22) == "encoder.layer.0.weight"
    assert middle("encoder.layer.0.weight", 11) == "encod…eight"
    assert columns(middle("権重" * 20, 11)) <= 11
    assert columns("e\u0301") == 1
    assert middle("abc", 1) == "…"


def test_tables_leave_out_what_is_spare_before_they_cut() -> None:
    head, row = ("name", "kind", "size", "more"), ("n" * 30, "k" * 10, "1234", "5678")
    assert table(head, [row], left=2)[1] == f"{row[0]}  {row[1]}  1234  5678"
    assert table(head, [row], left=2, width=60) == table(head, [row], left=2)
    assert table(head, [row], left=2, width=50)[1] == f"{middle(row[0], 26)}  {row[1]}  1234  5678"
    spare = table(head, [row], left=2, width=42, spare=("more", "kind"))
    assert spare[1] == f"{middle(row[0], 24)}  {row[1]}  1234"
    assert table(head, [row], left=2, width=36, spare=("more", "kind"))[1] == f"{row[0]}  1234"
    assert table(("a", "b"), [("x", "one two three")], left=2, width=11, wrap=True) == [
        "a  b",
        "x  one two",
        "   three",
    ]


def test_escapes_are_measured() -> None:
    names = ["::add-mask::x", "plain.weight", "  ::y", "##vso[task.z]", "a\u2028b"]
    rows = [(name, "F32", "1.0 kB") for name in names]
    for width in (None, 40, 24):
        lines = table(("tensor", "dtype", "bytes"), rows, left=2, width=width)
        assert list(map(harmless, lines)) == lines
        assert len({columns(line) for line in lines}) == 1
        assert {line.index("F32") for line in lines[1:]} == {lines[0].index("dtype")}
    assert r"\::add-mask::x" in table(("tensor",), [names[:1]])
    line = prose("one ##vso[two] three", 20)
    assert list(map(harmless, line)) == line
    assert max(map(columns, line)) <= 20


def test_prose() -> None:
    assert prose("one two three", None) == ["one two three"]
    assert prose("one two three", 13) == ["one two three"]
    assert prose("one two three", 9) == ["one two", "  three"]
    assert all(columns(line) <= 20 for line in prose(f"in {'long' * 20} there are", 20))
