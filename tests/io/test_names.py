"""Names of sources and of what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bale.io.names import archive_name, own_name, source_of, sources_of


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize(
    ("source", "is_folder"),
    [("model.safetensors", False), ("model", False), ("a.b.pt", False), ("model", True), (".hidden", False)],
)
def test_the_source_is_found_by_the_name_of_its_archive(source: str, is_folder: bool, lossy: bool) -> None:
    archive = archive_name(source, lossy, is_folder)
    assert archive.endswith(".bale")
    assert (".lossy" in archive) == lossy
    assert source_of(archive) == source
    assert source in sources_of(archive)


def test_names_that_say_lossy_themselves() -> None:
    assert list(sources_of("m.lossy.pt.bale")) == ["m.lossy.pt", "m.pt"]
    assert list(sources_of("m.pt")) == []


def test_paths_without_a_name_have_that_of_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert [own_name(Path(each)) for each in (".", "..", "../b/c")] == ["b", "a", "c"]
    assert own_name(Path("/")) == "/"
