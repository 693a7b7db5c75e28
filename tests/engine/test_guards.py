"""What a run reads is never overwritten and never becomes its own base: by links, folders, defaults or chains."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import bale
from bale.errors import OutputError, UsageError
from tests.making import sha256, weights, write

W = weights(80, 80)


def tuned(seed: int) -> dict[str, object]:
    return {"w": W + weights(80, 80, seed=seed) / 500}


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A folder with a model and its fine-tune."""
    (tmp_path / "zoo").mkdir()
    write(tmp_path / "zoo" / "base.safetensors", {"w": W})
    write(tmp_path / "zoo" / "tuned.safetensors", tuned(1))
    return tmp_path / "zoo"


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


class TestItsOwnBase:
    def refused(self, source: Path, base: Path) -> None:
        out = source.parent.parent / "out.bale"
        for call in (lambda: bale.compress(source, out, base=base), lambda: bale.plan(source, base=base)):
            with pytest.raises(UsageError, match="is its own base"):
                call()
        assert not out.exists()

    def test_a_folder_that_holds_the_source(self, zoo: Path) -> None:
        self.refused(zoo / "tuned.safetensors", zoo)

    def test_a_folder_of_links_to_the_source(self, zoo: Path, tmp_path: Path) -> None:
        (tmp_path / "hub").mkdir()
        (tmp_path / "hub" / "model.safetensors").symlink_to(zoo / "tuned.safetensors")
        self.refused(zoo / "tuned.safetensors", tmp_path / "hub")
        self.refused(tmp_path / "hub" / "model.safetensors", zoo)

    def test_a_hard_link(self, zoo: Path, tmp_path: Path) -> None:
        (tmp_path / "hub").mkdir()
        os.link(zoo / "tuned.safetensors", tmp_path / "hub" / "model.safetensors")
        self.refused(zoo / "tuned.safetensors", tmp_path / "hub")

    def test_a_source_folder_that_holds_the_base(self, zoo: Path) -> None:
        self.refused(zoo, zoo / "base.safetensors")

    def test_a_source_folder_that_is_the_base(self, zoo: Path) -> None:
        self.refused(zoo, zoo)

    def test_a_base_that_stands_on_the_source(self, zoo: Path, tmp_path: Path) -> None:
        bale.compress(zoo / "tuned.safetensors", zoo / "tuned.bale", base=zoo / "base.safetensors")
        self.refused(zoo / "base.safetensors", zoo / "tuned.bale")

    def test_another_file_beside_it_is_a_base(self, zoo: Path, tmp_path: Path) -> None:
        report = bale.compress(zoo / "tuned.safetensors", tmp_path / "t.bale", base=zoo / "base.safetensors")
        assert report.rows[0].pipeline == "base/exact"


class TestTheBaseIsNoTarget:
    @pytest.fixture
    def archive(self, zoo: Path, tmp_path: Path) -> Path:
        bale.compress(zoo / "tuned.safetensors", zoo / "tuned.bale", base=zoo / "base.safetensors")
        return zoo / "tuned.bale"

    def refused(self, folder: Path, call: object) -> None:
        before = digests(folder)
        with pytest.raises(OutputError, match="it is the base, or a file of it"):
            call()  # type: ignore[operator]
        assert digests(folder) == before

    @pytest.mark.parametrize("given", [True, False])
    def test_one_that_is_named_or_found(self, archive: Path, zoo: Path, given: bool) -> None:
        base = zoo / "base.safetensors"
        self.refused(zoo, lambda: bale.decompress(archive, base, base=base if given else None, force=True))
        self.refused(zoo, lambda: bale.decompress(archive, base, tensors=["w"], force=True))

    def test_a_link_to_it(self, archive: Path, zoo: Path, tmp_path: Path) -> None:
        os.link(zoo / "base.safetensors", tmp_path / "hard.safetensors")
        self.refused(tmp_path, lambda: bale.decompress(archive, tmp_path / "hard.safetensors", force=True))

    def test_the_default_target(self, zoo: Path) -> None:
        """The archive of a fine-tune under the name of its base."""
        archive = zoo / "base.safetensors.bale"
        bale.compress(zoo / "tuned.safetensors", archive, base=zoo / "base.safetensors")
        self.refused(zoo, lambda: bale.decompress(archive, force=True))

    def test_the_base_of_the_base(self, archive: Path, zoo: Path, tmp_path: Path) -> None:
        write(zoo / "third.safetensors", tuned(2))
        bale.compress(zoo / "third.safetensors", zoo / "third.bale", base=archive)
        for target in (archive, zoo / "base.safetensors"):
            self.refused(zoo, lambda target=target: bale.decompress(zoo / "third.bale", target, force=True))
            self.refused(
                zoo, lambda target=target: bale.compress(zoo / "third.safetensors", target, base=archive, force=True)
            )

    def test_a_file_of_a_folder(self, zoo: Path, tmp_path: Path) -> None:
        (zoo / "config.json").write_text("{}")
        source = write(tmp_path / "third.safetensors", tuned(2))
        for name in ("base.safetensors", "config.json"):
            self.refused(
                zoo,
                lambda name=name: bale.compress(source, base=zoo, report=zoo / name, allow_unmatched=True, force=True),
            )
            self.refused(zoo, lambda name=name: bale.compress(source, zoo / name, base=zoo, force=True))

    def test_a_file_within_the_restored_folder(self, zoo: Path, tmp_path: Path) -> None:
        new = tmp_path / "new"
        new.mkdir()
        write(new / "base.safetensors", tuned(3))
        bale.compress(new, tmp_path / "new.bale", base=zoo / "base.safetensors")
        before = digests(zoo)
        with pytest.raises(OutputError, match="it is the base"):
            bale.decompress(tmp_path / "new.bale", zoo, base=zoo / "base.safetensors", force=True)
        assert digests(zoo) == before


def test_no_file_of_a_source_folder_becomes_the_report(zoo: Path) -> None:
    (zoo / "config.json").write_text("{}")
    with pytest.raises(OutputError, match="it is a file of the source"):
        bale.compress(zoo, report=zoo / "config.json", force=True)
    assert (zoo / "config.json").read_text() == "{}"


def test_the_recipe_does_not_become_the_report(zoo: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('[[rule]]\nname = "w"\npipeline = "int8"\n')
    with pytest.raises(OutputError, match="it is the input"):
        bale.compress(zoo / "base.safetensors", recipe=recipe, report=recipe, force=True)
    assert "[[rule]]" in recipe.read_text()


class TestTheOriginal:
    """Nobody loses the original by giving a lossy archive its name."""

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("model.safetensors", "model.lossy.safetensors.bale"),
            ("pytorch_model.bin", "pytorch_model.lossy.bin.bale"),
            ("weights", "weights.lossy.bale"),
            ("a.b.pt", "a.b.lossy.pt.bale"),
            (".hidden", ".hidden.lossy.bale"),
        ],
    )
    def test_a_lossy_archive_says_so_by_its_name(self, tmp_path: Path, name: str, expected: str) -> None:
        source = write(tmp_path / "m", {"w": W}).rename(tmp_path / name)
        report = bale.compress(source, pipeline="int8")
        assert report.path == tmp_path / expected
        assert (tmp_path / f"{expected}.report.json").is_file()
        bale.decompress(tmp_path / expected)
        assert sha256(source) != sha256(tmp_path / expected.removesuffix(".bale"))

    def test_of_a_folder(self, zoo: Path) -> None:
        assert bale.compress(zoo, pipeline="int8").path == zoo.with_name("zoo.lossy.bale")
        assert sorted(path.name for path in zoo.with_name("zoo.lossy.bale").glob("*.bale")) == [
            "base.safetensors.bale",
            "tuned.safetensors.bale",
        ]

    @pytest.mark.parametrize("choice", [None, "int8/exact", "lossless:effort=max"])
    def test_an_exact_one_keeps_the_plain_name(self, zoo: Path, choice: str | None) -> None:
        source = zoo / "base.safetensors"
        assert bale.compress(source, pipeline=choice).path == zoo / "base.safetensors.bale"

    def test_it_is_exact_too_where_the_choice_touches_nothing(self, tmp_path: Path) -> None:
        source = write(tmp_path / "m.safetensors", {"w": weights(8)})
        assert bale.compress(source, pipeline="int8").path == tmp_path / "m.safetensors.bale"

    def test_into_a_folder(self, zoo: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        report = bale.compress(zoo / "base.safetensors", into=tmp_path / "out", pipeline="int8")
        assert report.path == tmp_path / "out" / "base.lossy.safetensors.bale"

    def test_decompressing_onto_it_is_refused_in_words(self, zoo: Path) -> None:
        source = zoo / "base.safetensors"
        before = sha256(source)
        bale.compress(source, zoo / "base.safetensors.bale", pipeline="int8")
        with pytest.raises(OutputError, match="which is lossy and does not give it back"):
            bale.decompress(zoo / "base.safetensors.bale")
        assert sha256(source) == before
        bale.decompress(zoo / "base.safetensors.bale", force=True)
        assert sha256(source) != before

    def test_the_first_layer_alone_is_lossy_too(self, zoo: Path) -> None:
        bale.compress(zoo / "base.safetensors", pipeline="int8/exact")
        with pytest.raises(OutputError, match="does not give it back"):
            bale.decompress(zoo / "base.safetensors.bale", layers=1)
        with pytest.raises(OutputError, match="exists already"):
            bale.decompress(zoo / "base.safetensors.bale")
