"""``--load-format bale`` for vLLM: a folder of archives in the place of one of safetensors files.

A plug-in by vLLM's documentation (entry point ``vllm.general_plugins``, `register_model_loader`, as of 0.28), tested
against a stand-in of that interface only: vLLM itself was not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bale.torch.folder import open_archives
from bale.torch.values import tensor_of


def register() -> None:
    """Make the load format known; vLLM calls this in each of its processes, perhaps several times."""
    from vllm.model_executor.model_loader import BaseModelLoader, register_model_loader

    class BaleLoader(BaseModelLoader):  # type: ignore[misc]
        """Hands the tensors of a folder's archives to the model, one at a time."""

        def download_model(self, model_config: Any) -> None:
            """Nothing: the folder is local."""

        def load_weights(self, model: Any, model_config: Any) -> None:
            """Load each tensor of the folder into a model."""
            model.load_weights(_tensors(Path(model_config.model)))

    register_model_loader("bale")(BaleLoader)


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with open_archives(folder) as archives:
        for name in archives:
            yield name, tensor_of(archives, name)
