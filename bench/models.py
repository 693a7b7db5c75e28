"""The public checkpoints that are measured, by their place in the folder that `make fetch` fills."""

from __future__ import annotations

import sys
from pathlib import Path

MINILM = "minilm/model.safetensors"
MINILM_BF16 = "minilm-bf16/model-cast-bf16.safetensors"
MINILM_FP16 = "minilm-fp16/model-cast-fp16.safetensors"
WHISPER = "whisper/whisper-base-fp16.safetensors"
CREPE = "crepe/full.pth"
RESEMBLYZER = "resemblyzer/pretrained.pt"
EFFICIENTNET = "efficientnet/efficientnet-lite0-57934424.pth"
LIGAND = "ligand/ligandmpnn_v_32_010_25.pt"
SUDACHI = "sudachi/model.pth"
SMOLLM2 = "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SILERO = "silero/silero_vad_16k.safetensors"


def checkpoint(models: Path, name: str) -> Path:
    """A public checkpoint, which must have been fetched."""
    path = models / name
    if not path.exists():
        sys.exit(f"{path} is missing; fetch it with: python scripts/fetch_models.py {models}")
    return path


def finetune(folder: Path, name: str) -> Path:
    """A fine-tune of MiniLM, which must have been made."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        sys.exit(f"{path} is missing; make it with: make finetune")
    return path
