"""Some tensors of an archive, as a safetensors file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import bale
from bale.errors import OutputError, UsageError
from tests.making import names_in, random_raw, sha256, weights, write


def read(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.offset_keys()}


def test_by_patterns(tmp_path: Path) -> None:
    tensors = {f"layers.{n}.w": weights(8, 8, seed=n) for n in (1, 2, 10)}
    bale.compress(write(tmp_path / "m.safetensors", tensors))
    out = tmp_path / "some.safetensors"
    done = bale.decompress(tmp_path / "m.safetensors.bale", out, tensors=["layers.1.*", "re:.*10.*", "layers.1.w"])
    found = read(out)
    assert list(found) == ["layers.1.w", "layers.10.w"]
    for name, array in found.items():
        assert np.array_equal(array, tensors[name])
    assert done.size == out.stat().st_size


def test_of_every_dtype(tmp_path: Path) -> None:
    from tests.making import PORTABLE

    raws = {dtype: random_raw(dtype, (2, 4), 3) for dtype in PORTABLE}
    source = write(tmp_path / "m.safetensors", raws)
    bale.compress(source)
    out = tmp_path / "all.safetensors"
    bale.decompress(tmp_path / "m.safetensors.bale", out, tensors=["*"])
    differences = bale.compare(source, out)
    assert {row.status for row in differences} == {"equal"}
    assert len(differences) == len(PORTABLE)


def test_with_loss_gives_what_decompress_gives(model: Path) -> None:
    bale.compress(model, f"{model}.bale", pipeline="int4")
    whole, some = model.with_name("whole"), model.with_name("some")
    bale.decompress(f"{model}.bale", whole)
    bale.decompress(f"{model}.bale", some, tensors=["*"])
    assert {row.status for row in bale.compare(whole, some)} == {"equal"}


def test_from_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for n in range(3):
        write(folder / f"{n}.safetensors", {f"w{n}": weights(8, seed=n)})
    bale.compress(folder)
    out = tmp_path / "some.safetensors"
    bale.decompress(tmp_path / "model.bale", out, tensors=["w[12]"])
    assert list(read(out)) == ["w1", "w2"]


def test_what_cannot_be(model: Path) -> None:
    bale.compress(model)
    archive = Path(f"{model}.bale")
    before = names_in(model.parent)
    digest = sha256(archive)
    with pytest.raises(UsageError, match="'nothing' matches no tensor"):
        bale.decompress(archive, model.with_name("x"), tensors=["embed.weight", "nothing"])
    with pytest.raises(UsageError, match="regular expression"):
        bale.decompress(archive, model.with_name("x"), tensors=["re:("])
    with pytest.raises(UsageError, match="-o"):
        bale.decompress(archive, tensors=["*"])
    with pytest.raises(OutputError, match="it is the input"):
        bale.decompress(archive, archive, tensors=["*"], force=True)
    assert names_in(model.parent) == before
    assert sha256(archive) == digest


def test_a_name_that_safetensors_keeps_for_itself(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"__metadata__": torch.zeros(4), "w": torch.zeros(4)}, tmp_path / "m.pt")
    bale.compress(tmp_path / "m.pt")
    with pytest.raises(UsageError, match="called __metadata__"):
        bale.decompress(tmp_path / "m.pt.bale", tmp_path / "out", tensors=["*"])
    assert not (tmp_path / "out").exists()
    bale.decompress(tmp_path / "m.pt.bale", tmp_path / "out", tensors=["w"])


def test_exact_is_said_of_the_chosen_tensors(tmp_path: Path) -> None:
    twin = weights(64, 64)
    tensors = {"lossy": twin, "kept": weights(64, 64, seed=1), "same": twin}
    source = write(tmp_path / "m.safetensors", tensors)
    bale.compress(source, f"{source}.bale", rules=["kept=lossless", "*=int4"])
    for chosen, exact in ((["kept"], True), (["lossy"], False), (["same"], False), (["*"], False)):
        done = bale.decompress(f"{source}.bale", tmp_path / "out", tensors=chosen, force=True)
        assert done.exact is exact, chosen
