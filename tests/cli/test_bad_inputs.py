"""Bad inputs: one clear line, the right exit code, nothing written."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Bale
from tests.making import names_in, weights, write

Maker = Callable[[Path], Path]


def _sound(folder: Path) -> Path:
    return write(folder / "m.safetensors", {"a": weights(64, 64), "b": weights(8)})


def _truncated(folder: Path) -> Path:
    path = _sound(folder)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _truncated_header(folder: Path) -> Path:
    path = _sound(folder)
    path.write_bytes(path.read_bytes()[:50])
    return path


def _header(folder: Path, header: object, payload: bytes = b"\0" * 64) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)
    return path


def _entry(begin: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": [16] if shape is None else shape, "data_offsets": [begin, end]}


def _content(data: bytes) -> Maker:
    def make(folder: Path) -> Path:
        path = folder / "m.safetensors"
        path.write_bytes(data)
        return path

    return make


def _folder(folder: Path) -> Path:
    made = folder / "model"
    made.mkdir()
    write(made / "model-1.safetensors", {"a": weights(8)})
    return made


def _missing_shard(folder: Path) -> Path:
    made = _folder(folder)
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (made / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    return made


def _index(shard: str) -> Maker:
    def make(folder: Path) -> Path:
        (folder / "evil").write_bytes(b"x")
        made = _folder(folder)
        (made / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
        return made

    return make


def _broken_index(folder: Path) -> Path:
    made = _folder(folder)
    (made / "model.safetensors.index.json").write_text('{"weight_map": ')
    return made


def _no_weights(folder: Path) -> Path:
    made = folder / "model"
    made.mkdir()
    (made / "README.md").write_text("nothing here")
    return made


def _linked_folder(folder: Path) -> Path:
    made = _folder(folder)
    (folder / "elsewhere").mkdir()
    (made / "linked").symlink_to(folder / "elsewhere")
    return made


def _shard_beside_its_archive(folder: Path) -> Path:
    """A copy of `model-1.safetensors.bale` would lie where the archive goes."""
    made = _folder(folder)
    (made / "model-1.safetensors.bale").write_bytes(b"no bale, in spite of its name")
    return made


BROKEN: dict[str, tuple[Maker, str]] = {
    "truncated": (_truncated, "m.safetensors"),
    "truncated header": (_truncated_header, "m.safetensors"),
    "offsets beyond the file": (lambda f: _header(f, {"a": _entry(0, 64), "b": _entry(64, 128)}), "m.safetensors"),
    "offsets that overlap": (lambda f: _header(f, {"a": _entry(0, 64), "b": _entry(32, 96)}), "m.safetensors"),
    "offsets with a hole": (
        lambda f: _header(f, {"a": _entry(0, 32, [8]), "b": _entry(40, 64, [6])}),
        "are gaps between",
    ),
    "bytes behind the last tensor": (
        lambda f: _header(f, {"a": _entry(0, 64)}, b"\0" * 65),
        "it has 1 byte more than its tensors make up",
    ),
    "offsets backwards": (lambda f: _header(f, {"a": _entry(64, 0)}), "m.safetensors"),
    "offsets that do not fit the shape": (lambda f: _header(f, {"a": _entry(0, 64, [15])}), "m.safetensors"),
    "shape that overflows": (lambda f: _header(f, {"a": _entry(0, 64, [1 << 62, 1 << 62])}), "m.safetensors"),
    "header that is no JSON": (lambda f: _header(f, b"{'a': 1}"), "m.safetensors"),
    "header that is not UTF-8": (lambda f: _header(f, b'{"\xff": {}}'), "m.safetensors"),
    "header that is a list": (lambda f: _header(f, []), "m.safetensors"),
    "header that is deep": (lambda f: _header(f, b'{"a":' * 100_000), "m.safetensors"),
    "header over 100 MB": (_content(struct.pack("<Q", 100_000_001) + b"{" + b" " * 100), "m.safetensors"),
    "header of 2^63 bytes": (_content(struct.pack("<Q", 1 << 63) + b"{}"), "m.safetensors"),
    "a web page": (_content(b"<!DOCTYPE html><html><body>404</body></html>"), "web page"),
    "a Git LFS pointer": (_content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), "LFS"),
    "an empty file": (_content(b""), "empty"),
    "seven bytes": (_content(b"1234567"), "m.safetensors"),
    "nonsense": (_content(b"nonsense" * 20), "m.safetensors"),
    "a missing shard": (_missing_shard, "model-2.safetensors"),
    "an index that names ../evil": (_index("../evil"), "../evil"),
    "an index that names an absolute path": (_index("/etc/passwd"), "/etc/passwd"),
    "an index that names a drive": (_index("C:model"), "C:model"),
    "an index that is broken": (_broken_index, "index.json"),
    "a folder without weights": (_no_weights, "weights"),
    "a folder with a link to a folder": (_linked_folder, "linked"),
    "a folder with a name for its archive": (_shard_beside_its_archive, "model-1.safetensors.bale"),
}


ODD: dict[str, tuple[Maker, str]] = {
    "metadata that are numbers": (
        lambda f: _header(f, {"__metadata__": {"step": 3}, "a": _entry(0, 64)}),
        "whose metadata are not all texts",
    ),
    "unknown dtype": (lambda f: _header(f, {"a": _entry(0, 64, dtype="F12")}), "'F12', which this bale does not know"),
}
"""Complete, and nothing that safetensors reads."""


@pytest.mark.parametrize("case", ODD)
def test_odd_sources_are_stored_as_bytes(bale: Bale, tmp_path: Path, case: str) -> None:
    make, words = ODD[case]
    source = make(tmp_path)
    for verb in ("plan", "inspect", "compress"):
        done = bale(verb, source)
        assert (done.code, done.err.count("coded as opaque bytes")) == (0, 1)
        assert words in done.err
    assert bale("decompress", f"{source}.bale", "-o", tmp_path / "back").code == 0
    assert source.read_bytes() == (tmp_path / "back").read_bytes()


@pytest.mark.parametrize("case", BROKEN)
def test_broken_sources(bale: Bale, tmp_path: Path, case: str) -> None:
    make, word = BROKEN[case]
    source = make(tmp_path)
    before = names_in(tmp_path)
    for verb in ("compress", "plan", "inspect"):
        bale(verb, source).failed(3, word)
    bale("compare", source, source).failed(3, word)
    document = bale("compress", source, "--json")
    assert document.code == 3
    assert document.result["error"].keys() == {"code", "kind", "message", "hint"}
    assert document.result["error"]["code"] == 3
    assert names_in(tmp_path) == before


def test_missing_files(bale: Bale, tmp_path: Path) -> None:
    for verb in ("compress", "plan", "inspect"):
        bale(verb, tmp_path / "missing").failed(3, "missing")
        bale(verb, tmp_path / ("x" * 300)).failed(3)
        bale(verb, tmp_path / "none" / "x.safetensors").failed(3, "x.safetensors")
    bale("compress", tmp_path / "missing", "-o", tmp_path / "none" / "x").failed(3, "missing")
    for verb in ("decompress", "verify"):
        bale(verb, tmp_path / "missing.bale").failed(3, "missing.bale")
    bale("decompress", tmp_path / "missing").failed(3, "missing")
    assert names_in(tmp_path) == []


def test_a_source_that_is_no_file(bale: Bale, tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "fifo")
    for verb in ("compress", "plan", "inspect", "verify", "decompress"):
        bale(verb, tmp_path / "fifo").failed(3, "fifo")
        bale(verb, "/dev/null").failed(3, "/dev/null")
    assert names_in(tmp_path) == ["fifo"]


def test_the_root_folder_has_no_name(bale: Bale) -> None:
    bale("compress", "/").failed(2, "no name")


RECIPES = {
    "a typo in a key": ('[[rule]]\nnmae = "*"\npipeline = "int8"', "'name'"),
    "a typo in the table": ('[[rules]]\nname = "*"\npipeline = "int8"', "'rule'"),
    "a table that is no list": ('[rule]\nname = "*"\npipeline = "int8"', "[[rule]]"),
    "no name": ('[[rule]]\npipeline = "int8"', "has no name"),
    "no pipeline": ('[[rule]]\nname = "*"', "has no pipeline"),
    "a text for a number": ('[[rule]]\nname = "*"\npipeline = "int8"\nmin_ndim = "2"', "min_ndim"),
    "a truth for a number": ('[[rule]]\nname = "*"\npipeline = "int8"\nmin_ndim = true', "min_ndim"),
    "a number for a truth": ('[[rule]]\nname = "*"\npipeline = "int8"\noptional = 1', "optional"),
    "an unknown codec": ('[[rule]]\nname = "*"\npipeline = "itn8"', "recipe.toml:3: rule 1"),
    "an unknown dtype": ('[[rule]]\nname = "*"\npipeline = "int8"\ndtype = "float16"', "float16"),
    "a bad pattern": ('[[rule]]\nname = "re:("\npipeline = "int8"', "recipe.toml:2: rule 1"),
    "a pattern that matches nothing": ('[[rule]]\nname = "encoder.*"\npipeline = "int8"', "encoder.*"),
    "no TOML": ("[[rule", "TOML"),
    "no rules": ("", "no rules"),
}


@pytest.mark.parametrize("case", RECIPES)
def test_bad_recipes(bale: Bale, tmp_path: Path, case: str) -> None:
    text, word = RECIPES[case]
    source, recipe = _sound(tmp_path), tmp_path / "recipe.toml"
    recipe.write_text(text)
    before = names_in(tmp_path)
    for verb in ("compress", "plan"):
        bale(verb, source, "-r", recipe).failed(2, word)
    assert names_in(tmp_path) == before


def test_a_recipe_that_cannot_be_read(bale: Bale, tmp_path: Path) -> None:
    source = _sound(tmp_path)
    bale("compress", source, "-r", tmp_path / "none.toml").failed(3, "none.toml")
    bale("compress", source, "-r", tmp_path).failed(3, str(tmp_path))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    bale("compress", source, "-r", tmp_path / "binary.toml").failed(2, "binary.toml")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["-p", "itn8"], "int8"),
        (["-p", "int:bist=4"], "bits"),
        (["-p", "int:bits=99"], "bits"),
        (["-p", "int8+svd:rank=2"], "cannot follow"),
        (["-p", ""], "empty stage"),
        (["--rule", "a"], "GLOB=PIPELINE"),
        (["--rule", "=int8"], "GLOB=PIPELINE"),
        (["--rule", "a="], "empty stage"),
        (["--rule", "re:(=int8"], "--rule 1"),
        (["--rule", "c=int8"], "matches no tensor"),
        (["--rule", "a=int8", "--rule", "a=int4"], "wholly shadowed"),
        (["--rule", "b=svd:rank=1"], "none of the tensor it chooses"),
        (["--threads", "0"], "--threads"),
        (["--nothing"], "--nothing"),
    ],
)
def test_bad_choices(bale: Bale, tmp_path: Path, options: list[str], word: str) -> None:
    source = _sound(tmp_path)
    for verb in ("compress", "plan"):
        bale(verb, source, *options).failed(2, word)
    assert names_in(tmp_path) == ["m.safetensors"]


def test_an_archive_given_to_compress(bale: Bale, tmp_path: Path) -> None:
    source = _sound(tmp_path)
    assert bale("compress", source, "-q").code == 0
    before = names_in(tmp_path)
    for verb in ("compress", "plan"):
        bale(verb, tmp_path / "m.safetensors.bale").failed(3, "is a bale", "bale decompress")
    assert names_in(tmp_path) == before


def test_a_checkpoint_given_to_decompress(bale: Bale, tmp_path: Path) -> None:
    source = _sound(tmp_path)
    bale("decompress", source).failed(4, "is not a bale", "bale compress")
    bale("decompress", source, "-o", tmp_path / "out").failed(4, "is not a bale")
    bale("decompress", source, "-o", "-").failed(4, "is not a bale")
    bale("decompress", source, "-o", tmp_path / "out", "--tensor", "a").failed(4, "is not a bale")
    bale("verify", source).failed(4, "is not a bale")
    bale("decompress", _folder(tmp_path)).failed(4, "not a compressed folder")
    bale("verify", tmp_path / "model").failed(4, "bale.folder.json")
    assert names_in(tmp_path) == ["m.safetensors", "model", "model/model-1.safetensors"]


def test_an_archive_whose_name_does_not_end_in_bale(bale: Bale, tmp_path: Path) -> None:
    source = _sound(tmp_path)
    assert bale("compress", source, "-q", "-o", tmp_path / "packed").code == 0
    bale("decompress", tmp_path / "packed").failed(2, "does not end in .bale", "-o")


def test_a_damaged_archive(bale: Bale, tmp_path: Path) -> None:
    source = _sound(tmp_path)
    assert bale("compress", source, "-q").code == 0
    archive = tmp_path / "m.safetensors.bale"
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    before = names_in(tmp_path)
    bale("decompress", archive, "-o", tmp_path / "out").failed(4, "digest")
    bale("decompress", archive, "-o", tmp_path / "out", "--tensor", "a").failed(4, "digest")
    bale("verify", archive).failed(4, "digest")
    bale("compare", archive, source).failed(4, "digest")
    assert bale("inspect", archive).code == 0  # which looks at the header and the manifest only
    assert names_in(tmp_path) == before


def test_an_archive_with_damage_in_its_first_bytes(bale: Bale, tmp_path: Path) -> None:
    source = _sound(tmp_path)
    assert bale("compress", source, "-q").code == 0
    archive, renamed = tmp_path / "m.safetensors.bale", tmp_path / "renamed"
    sound = archive.read_bytes()
    for at in range(32):
        data = sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :]
        archive.write_bytes(data)
        bale("inspect", archive).failed(4)
        bale("compare", archive, source).failed(4)
        renamed.write_bytes(data)
        if data.find(b'"bale":"') > 0:
            bale("inspect", renamed).failed(4)
    named = write(tmp_path / "named", {"bale": weights(8)})
    assert bale("inspect", named).code == 0


def test_names_do_not_reach_the_terminal_as_they_are(bale: Bale, tmp_path: Path) -> None:
    name = "a\x1b[2J\x9b31m\u202e\n"
    source = write(tmp_path / "m\x1b.safetensors", {name: weights(64, 64)})
    for command in (
        ["inspect", source],
        ["plan", source, "-p", "int4"],
        ["compress", source, "-p", "int4"],
        ["inspect", f"{source}.bale"],
        ["compare", source, f"{source}.bale"],
        ["compare", source, f"{source}.bale", "--max-error", "0"],
        ["verify", f"{source}.bale"],
        ["decompress", f"{source}.bale", "-o", tmp_path / "out\x1b"],
        ["compress", source],
        ["inspect", source, "--json"],
    ):
        said = bale(*command)
        for letter in "\x1b\x9b\u202e":
            assert letter not in said.out + said.err, command
    assert bale("inspect", source, "--json").result["tensors"][0]["name"] == name
