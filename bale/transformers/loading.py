"""`from_pretrained`: a model from a folder of archives, whatever its config says."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

from transformers import AutoConfig, PretrainedConfig

from bale.errors import UsageError
from bale.transformers.quantizer import METHOD, BaleConfig, dtype_in


def from_pretrained(
    folder: str | Path, auto_class: Any, *, keep: Literal["compressed"] | None = None, **options: Any
) -> Any:
    """Load the model in a folder of archives, by a class of transformers.

    Tensors are decoded one at a time, straight to where the model has them, and each digest is checked.

    Parameters
    ----------
    folder : path
        What ``bale compress`` made of a model's folder: archives, its config, its tokenizer.
    auto_class : class
        ``AutoModelForCausalLM``, for one, or any class of a model.
    keep : str or None
        ``"compressed"`` leaves weights compressed in memory as `bale.torch.load_into` does. Such a model cannot be
        saved.
    **options
        As for ``auto_class.from_pretrained``: ``dtype``, ``device_map`` ...

    Returns
    -------
    model
        As of ``auto_class.from_pretrained``; without `keep` it is a plain one, which ``save_pretrained`` writes.

    Raises
    ------
    UsageError
        Where the config says that the weights are quantized in another way.
    SourceError, ArchiveError
        Where there is no archive, or a damaged one.

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM  # doctest: +SKIP
    >>> model = bale.transformers.from_pretrained("model.bale", AutoModelForCausalLM)  # doctest: +SKIP
    """
    config, options = _config(folder, options)
    given = getattr(config, "quantization_config", None)
    method = given.get("quant_method") if isinstance(given, dict) else getattr(given, "quant_method", None)
    if method not in (None, METHOD):
        raise UsageError(
            f"the weights in {folder} are quantized by {method}, which is to load them", "decompress the folder first"
        )
    config.quantization_config = BaleConfig(keep=keep).to_dict()
    return auto_class.from_pretrained(folder, config=config, **options)


def _config(folder: str | Path, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The config of a folder with those options that are its own, and the others."""
    given = options.pop("config", None)
    if isinstance(given, PretrainedConfig):
        config = copy.deepcopy(given)
    else:
        beside: dict[str, Any] = {
            key: options.pop(key) for key in ("dtype", "device_map", "quantization_config") if key in options
        }
        shared: dict[str, Any] = {key: options[key] for key in ("subfolder", "trust_remote_code") if key in options}
        config, options = AutoConfig.from_pretrained(given or folder, return_unused_kwargs=True, **options)
        options |= {**shared, **beside}
    if config.dtype is None:
        config.dtype = dtype_in(Path(folder) / options.get("subfolder", ""))
    return config, options
