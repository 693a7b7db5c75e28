"""Files made by the libraries themselves, where these are installed (`pip install h5py tensorflow-cpu`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.io.checkpoint import Checkpoint
from bale.io.sources.open import open_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries

W = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)


def round_trip(source: Path, tmp_path: Path, pipeline: str | None = None) -> Path:
    """The file that comes back, in a folder of its own; without loss it is the same."""
    back = tmp_path / f"back-{pipeline}" / source.name
    back.parent.mkdir()
    bale.compress(source, tmp_path / f"{pipeline}.bale", **({} if pipeline is None else {"pipeline": pipeline}))
    bale.decompress(tmp_path / f"{pipeline}.bale", back)
    assert pipeline is not None or back.read_bytes() == source.read_bytes()
    return back


def starts(found: Checkpoint) -> dict[str, int]:
    return {view.name: unit.start for unit in found.units for view in unit.views if unit.spec.nbytes}


@pytest.mark.parametrize("version", ["earliest", "v108", "v110", "latest"])
def test_h5py(tmp_path: Path, version: str) -> None:
    h5py = pytest.importorskip("h5py")
    path, expected = tmp_path / "m.h5", dict[str, int]()
    with h5py.File(path, "w", libver=version) as file:
        for number in range(1000):
            file[f"group{number % 3}/inner/weight{number}"] = W[number % 64]
        file["big"], file["scalar"], file["empty"] = W.astype(">f8"), 3, np.zeros((0, 3))
        file["group0/again"], file["group1/up"] = file["big"], file["/group1"]
        file.create_dataset("chunks", data=W, chunks=(8, 8), fletcher32=True)
        file["text"] = "text"

        def visit(name: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset) and found.id.get_offset() is not None and found.dtype.kind != "O":
                expected[name] = found.id.get_offset()

        file.visititems(visit)
        expected |= {"group0/again": file["big"].id.get_offset()}
    assert starts(open_checkpoint(path)) == expected
    round_trip(path, tmp_path)


@pytest.fixture(scope="module")
def keras() -> Any:
    pytest.importorskip("tensorflow")
    return pytest.importorskip("keras")


@pytest.fixture
def model(keras: Any) -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(256), keras.layers.Dense(32)])


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_keras(keras: Any, model: Any, tmp_path: Path, name: str) -> None:
    model.save(tmp_path / name)
    round_trip(tmp_path / name, tmp_path)
    lossy = keras.models.load_model(round_trip(tmp_path / name, tmp_path, "int8"))
    inputs = np.ones((2, 64), np.float32)
    expected, found = np.asarray(model(inputs)), np.asarray(lossy(inputs))
    assert 0 < np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


def test_a_saved_model(model: Any, tmp_path: Path) -> None:
    import tensorflow

    folder = tmp_path / "saved"
    model.export(folder, verbose=False)
    bale.compress(folder, tmp_path / "small")
    bale.decompress(tmp_path / "small", tmp_path / "back")
    data = Path("variables", "variables.data-00000-of-00001")
    assert (tmp_path / "back" / data).read_bytes() == (folder / data).read_bytes()
    assert (tmp_path / "small" / f"{data}.bale").stat().st_size < 0.6 * (folder / data).stat().st_size
    names = dict(tensorflow.train.list_variables(str(folder / "variables" / "variables")))
    found = {view.name: list(view.spec.shape) for unit in open_checkpoint(folder / data).units for view in unit.views}
    assert found == {name: shape for name, shape in names.items() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"}
    assert tensorflow.saved_model.load(str(tmp_path / "back")) is not None


@pytest.mark.parametrize("pipeline", ["int8", "trellis:bits=4"])
def test_a_lossy_saved_model(keras: Any, model: Any, tmp_path: Path, pipeline: str) -> None:
    import tensorflow

    folder, back = tmp_path / "saved", tmp_path / "back"
    model.export(folder, verbose=False)
    bale.compress(folder, tmp_path / "small", pipeline=pipeline)
    bale.decompress(tmp_path / "small", back)
    inputs = np.ones((2, 64), np.float32)
    loaded = tensorflow.saved_model.load(str(back))
    expected, found = np.asarray(model(inputs)), np.asarray(loaded.serve(inputs))
    assert 0 < np.abs(found - expected).max() < (0.03 if pipeline == "int8" else 0.3) * np.abs(expected).max()


@pytest.mark.parametrize("pipeline", ["int8", "trellis:bits=4"])
def test_a_lossy_checkpoint_of_several_shards(keras: Any, tmp_path: Path, pipeline: str) -> None:
    import tensorflow as tf

    source, back = tmp_path / "source", tmp_path / "back"
    source.mkdir()
    held = {f"w{number}": tf.Variable(W * (number + 1)) for number in range(5)}
    held |= {
        "half": tf.Variable(tf.cast(W, tf.bfloat16)),
        "long": tf.Variable(np.tile(W, (4, 1))),
        "step": tf.Variable(7),
    }
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=60_000)  # cuts the long one into slices
    options = tf.train.CheckpointOptions(experimental_sharding_callback=policy)
    tf.train.Checkpoint(**held).write(str(source / "m"), options=options)
    assert len(list(source.glob("m.data-*"))) > 3
    report = bale.compress(source, tmp_path / "small", rules=[f"[!s]*={pipeline}"])  # all but the step
    bale.decompress(tmp_path / "small", back)
    found = tf.train.load_checkpoint(str(back / "m"))
    assert sum(row.error > 0 for row in report.rows) > len(held)
    for name, value in held.items():
        before = value.numpy().astype(np.float64)
        after = found.get_tensor(f"{name}/.ATTRIBUTES/VARIABLE_VALUE").astype(np.float64)
        apart = np.linalg.norm(after - before) / np.linalg.norm(before)
        assert apart < 0.15
        assert (apart > 0) == (name != "step")
    tf.train.Checkpoint(**held).read(str(back / "m")).assert_consumed()
    (back / "m.index").write_bytes((source / "m.index").read_bytes())
    with pytest.raises(tf.errors.DataLossError):  # it does look at checksums
        tf.train.Checkpoint(**held).read(str(back / "m"))
