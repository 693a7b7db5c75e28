"""The same input and choices give the same bytes, whatever the threads, the run and the hash seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bale
from tests import as_users_have_it
from tests.making import Raw, bf16, sha256, weights, write

CHOICES = ["lossless", "int4", "int8:clip=mse", "svd:rank=8+int8", "trellis:bits=3", "svd:rank=8+trellis:error=0.1"]
SCRIPT = """
import sys, bale
source, folder, threads, *choices = sys.argv[1:]
for number, choice in enumerate(choices):
    bale.compress(source, f"{folder}/{number}.bale", pipeline=choice, threads=int(threads))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several tensors, one of them in several chunks, some empty: their order in the file is left open by offsets."""
    tensors = {
        "large": bf16(weights(1100, 1000, seed=1)),
        **{f"layer.{n}": weights(64, 96, seed=n) for n in range(12)},
        **{f"empty.{n}": Raw("F32", (0, n), b"") for n in range(8)},
    }
    return write(tmp_path_factory.mktemp("source") / "m.safetensors", tensors)


def compressed(source: Path, folder: Path, choices: list[str], threads: int, seed: str) -> list[str]:
    folder.mkdir()
    environment = {**as_users_have_it(), "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", SCRIPT, str(source), str(folder), str(threads), *choices]
    subprocess.run(command, env=environment, check=True)
    return [sha256(folder / f"{number}.bale") for number in range(len(choices))]


def test_one_digest(source: Path, tmp_path: Path) -> None:
    choices = [choice.replace("int8:", "int:") for choice in CHOICES]
    one = compressed(source, tmp_path / "one", choices, 1, "0")
    four = compressed(source, tmp_path / "four", choices, 4, "1")
    for choice, *digests in zip(choices, one, four, strict=True):
        report = bale.compress(source, tmp_path / "n.bale", pipeline=choice, threads=2, force=True)
        assert set(digests) == {report.to_json()["archive"]["sha256"]}, choice


@pytest.mark.usefixtures("threads_of_blas")
@pytest.mark.parametrize(
    "pipeline",
    [
        "svd:rank=8",  # from a sketch
        "svd:ratio=0.6",  # from the Gram matrix
        "svd:error=0.97",
        "svd:rank=8+int8/int:bits=3",
        "svd:rank=8+int8/trellis:bits=2",
        "svd:rank=auto+int8/int:bits=3",
        "tucker:ratio=0.3",
        "tucker:error=0.8+int8",
        "tt:ratio=0.3",
        "tt:error=0.8+int8",
        "cp:error=0.95",
        "cp:rank=5",
    ],
)
def test_decompositions(tmp_path: Path, pipeline: str) -> None:
    """Whatever the threads; BLAS has one in each of them."""
    svd = pipeline.startswith("svd")
    shapes = [(1100, 1040), (65, 70), (300, 40)] if svd else [(40, 24, 3, 3), (20, 20, 12), (30, 10, 3, 5)]
    tensors = {f"w{n}": weights(*shape, seed=n) for n, shape in enumerate(shapes)}
    source, digests = write(tmp_path / "m.safetensors", tensors), set()
    for threads in (1, 2, 4):
        report = bale.compress(source, f"{source}.bale", rules=[f"w*={pipeline}"], threads=threads, force=True)
        assert pipeline in {row.pipeline for row in report.rows}
        digests.add(sha256(Path(f"{source}.bale")))
    assert len(digests) == 1


def test_reports_differ_in_times_only(source: Path, tmp_path: Path) -> None:
    documents = []
    for threads in (1, 3):
        document = bale.compress(source, tmp_path / "m.bale", pipeline="int4", threads=threads, force=True).to_json()
        for row in document["tensors"]:
            assert row.pop("seconds") >= 0
        documents.append(document)
    assert documents[0] == documents[1]


def test_the_name_and_place_of_the_source_do_not_matter(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "another name"
    other.write_bytes(source.read_bytes())
    for choice in ("lossless", "int4"):
        bale.compress(source, tmp_path / "a.bale", pipeline=choice, force=True)
        bale.compress(other, tmp_path / "b.bale", pipeline=choice, force=True)
        assert sha256(tmp_path / "a.bale") == sha256(tmp_path / "b.bale")


def test_an_opaque_source_may_have_any_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"nothing that is known" * 50)
        bale.compress(tmp_path / name)
    assert sha256(tmp_path / "a.bale") == sha256(tmp_path / "b.bale")


def test_folders_whatever_the_order_of_their_files(tmp_path: Path) -> None:
    names = [f"{n}.safetensors" for n in range(5)]
    for folder, order in (("one", names), ("two", names[::-1])):
        (tmp_path / folder).mkdir()
        for name in order:
            write(tmp_path / folder / name, {f"w{name}": weights(32, 32, seed=int(name[0]))})
            (tmp_path / folder / f"{name}.txt").write_text(name)
        bale.compress(tmp_path / folder)
    one, two = ({path.name: sha256(path) for path in (tmp_path / f"{name}.bale").iterdir()} for name in ("one", "two"))
    assert one == two
    assert len(one) == 11
