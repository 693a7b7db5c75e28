"""What the names of files say of weights."""

from __future__ import annotations

from bale.io.weight_names import Numbered, is_weights, numbered, same_model, set_of


def test_numbers() -> None:
    assert numbered("a/m-00002-of-00003.bin") == Numbered("a/m-*-of-00003.bin", 2, 3)
    assert numbered("m-1-of-2") == Numbered("m-*-of-2", 1, 2)
    assert numbered("m-1-of-2/x.bin") is None
    assert numbered(f"m-1-of-{'9' * 5000}.bin") is None
    assert set_of("m.bin") == "m.bin"


def test_one_model_in_several_formats() -> None:
    same = ["model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "model.fp16.safetensors"]
    same += ["pytorch_model-00001-of-00002.bin", "consolidated.00.pth", "rust_model.ot"]
    assert len({same_model(name) for name in same}) == 1
    assert len({same_model(f"unet/diffusion_{name}") for name in ("pytorch_model.bin", "flax_model.msgpack")}) == 1
    others = ["adapter_model.bin", "optimizer.pt", "unet/model.safetensors", "model.safetensors"]
    assert len({same_model(name) for name in others}) == 4


def test_suffixes() -> None:
    assert is_weights("a/B.PT")
    assert is_weights("model.gguf")
    assert not is_weights("model.ot")
