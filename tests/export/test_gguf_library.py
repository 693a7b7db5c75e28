"""Export to GGUF, read and dequantized by the gguf package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from bale.export.exporting import export
from tests.making import weights

library = pytest.importorskip("gguf")

KINDS = {
    "Q8_0": "int:bits=8,group=32,symmetric=true,scale=fp16",
    "Q4_0": "int:bits=4,group=32,symmetric=true,scale=fp16",
    "Q4_1": "int:bits=4,group=32",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_package_gives_the_numbers_of_the_archive(tmp_path: Path, kind: str, dtype: type) -> None:
    writer = library.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_file_type(library.LlamaFileType.MOSTLY_F16)
    writer.add_token_list([f"word {number}" for number in range(1000)])
    values = {
        "token_embd.weight": weights(100, 64).astype(dtype),
        "blk.0.attn_norm.weight": weights(64),
        "blk.0.ffn_gate_exps.weight": weights(4, 64, 96).astype(dtype),
    }
    for name, each in values.items():
        writer.add_tensor(name, each)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    bale.compress(tmp_path / "m.gguf", pipeline=KINDS[kind], out=tmp_path / "m.bale")
    export(tmp_path / "m.bale", "gguf", tmp_path / "out.gguf", lossy_scales=kind == "Q4_1")
    before, after = library.GGUFReader(tmp_path / "m.gguf"), library.GGUFReader(tmp_path / "out.gguf")
    keys = {name: (field.contents(), after.fields[name].contents()) for name, field in before.fields.items()}
    assert [name for name, (one, other) in keys.items() if one != other] == ["general.file_type"]
    assert keys["general.file_type"][1] == library.LlamaFileType[f"MOSTLY_{kind}"]
    assert [tensor.tensor_type.name for tensor in after.tensors] == [kind, "F32", kind]
    with bale.open(tmp_path / "m.bale") as tensors:
        for tensor in after.tensors:
            right, found = tensors[tensor.name], library.dequantize(tensor.data, tensor.tensor_type)
            if kind == "Q4_1":
                assert np.abs(found - right).max() < 0.01 * np.abs(right).max() / 7
            else:
                assert np.array_equal(found.astype(right.dtype), right)
