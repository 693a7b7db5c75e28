"""``bale`` as a quantization method of transformers.

Transformers has hooks for formats of weights that are not its own, but none that hands over tensors: it reads files,
each ``.safetensors`` by its own library and all others by `torch.load`. So before weights are loaded, the list of files
becomes one small torch file of references, which torch makes `Reference` objects of; each is decoded when transformers
asks for its values, as it does with slices of a safetensors file. All else, from tied weights to experts that are
merged, is as with any other folder.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from bale.engine.reading.archives import Archives
from bale.errors import SourceError, UsageError
from bale.torch.folder import open_archives
from bale.torch.keep import Kept, put_kept
from bale.torch.values import dtype_of
from bale.transformers.references import Reference, publish

if not hasattr(HfQuantizer, "update_attn_implementation"):
    raise ImportError("bale.transformers needs a newer transformers: pip install 'transformers>=5.24'")

METHOD = "bale"
_STAND_IN = "bale.safetensors"  # a name that transformers takes for a file of weights; no file has it


@register_quantization_config(METHOD)
class BaleConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """Says that the weights in a folder are archives.

    Parameters
    ----------
    keep : str or None
        ``"compressed"`` leaves weights compressed in memory, as `bale.torch.load_into` does.
    """

    def __init__(self, keep: Literal["compressed"] | None = None, **_: object) -> None:
        if keep not in (None, "compressed"):
            raise UsageError(f"keep={keep!r} is not known", 'give keep="compressed", or leave it out')
        self.quant_method = METHOD
        self.keep = keep
        self.dequantize = keep is None  # the model is a plain one afterwards


@register_quantizer(METHOD)
class BaleQuantizer(HfQuantizer):  # type: ignore[misc]
    """Loads archives in place of weights."""

    def __init__(self, quantization_config: BaleConfig, **options: Any) -> None:
        super().__init__(quantization_config, **options)
        self.pre_quantized = True
        self._keep = quantization_config.keep
        self._kept: list[Kept] = []
        self._archives: Archives | None = None

    def update_attn_implementation(self, config: Any) -> Any:
        """Name the file of weights: no other hook sees the config before transformers seeks it."""
        config.transformers_weights = _STAND_IN
        if config.dtype is None:  # which transformers would look for in that file
            config.dtype = dtype_in(Path(config.name_or_path))
        return config

    def _process_model_before_weight_loading(
        self, model: Any, checkpoint_files: list[str] | None = None, **_: object
    ) -> Any:
        assert checkpoint_files is not None
        folder = Path(checkpoint_files[0]).parent
        self._archives = open_archives(folder)
        names = {name: name for name in self._archives}
        if self._keep is not None:
            stored = _names_in(model, self._archives)
            self._kept, _reasons = put_kept(model, self._archives, stored)
            for each in self._kept:
                del names[each.stored]
        place = tempfile.mkdtemp(prefix="bale-")
        self._remove = weakref.finalize(self, shutil.rmtree, place)  # also where loading fails
        token, file = publish(self._archives), Path(place) / "references.bin"
        torch.save({name: Reference(token, name) for name in names}, file)
        checkpoint_files[:] = [str(file)]
        return model

    def _process_model_after_weight_loading(self, model: Any, **_: object) -> Any:
        assert self._archives is not None
        for each in self._kept:
            each.fill(self._archives)
        self._archives.close()
        self._remove()
        return model

    def is_serializable(self) -> bool:
        """Whether it can be saved: not what stays compressed."""
        return self._keep is None

    @property
    def is_trainable(self) -> bool:
        """Whether it can be trained: not what stays compressed."""
        return self._keep is None


def dtype_in(folder: Path) -> torch.dtype:
    """The dtype of the first floating-point tensor in a folder's archives; that of torch for a folder without."""
    try:
        opened = open_archives(folder)
    except SourceError:  # as where weights lie in a folder within: told when they are opened
        return torch.get_default_dtype()
    with opened as archives:
        dtypes = (dtype_of(spec.dtype) for spec in archives.specs.values() if spec.is_float)
        return next(dtypes, torch.get_default_dtype())


def _names_in(model: Any, archives: Archives) -> Mapping[str, str]:
    """Names in the archives by those of the model's parameters that are not tied."""
    start = f"{model.base_model_prefix}."
    tied = getattr(model, "all_tied_weights_keys", {})
    shared = {*tied, *tied.values()}
    found = {}
    for name, parameter in model.named_parameters():
        stored = next((each for each in (name, name.removeprefix(start), start + name) if each in archives), None)
        if stored is not None and name not in shared and archives.spec(stored).shape == tuple(parameter.shape):
            found[name] = stored
    return found
