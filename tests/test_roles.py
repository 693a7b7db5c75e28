"""Names of tensors that are no weights, as trainers, optimizers and quantizers give them; and names of weights."""

from __future__ import annotations

import pytest

from bale.roles import Roles
from bale.spec import TensorSpec, View


def view(name: str, dtype: str = "F32", shape: tuple[int, ...] = (64, 64)) -> View:
    return View(name, TensorSpec(dtype, shape))


def kind_of(name: str, *beside: View, dtype: str = "F32") -> str | None:
    note = Roles([view(name, dtype), *beside]).note(view(name, dtype))
    return None if note is None else note.kind


@pytest.mark.parametrize(
    "name",
    [
        "optimizer.state.0.exp_avg_sq",
        "optimizer_states.0.state.17.exp_avg_sq",
        "state.3.exp_avg_sq",
        "state.3.max_exp_avg_sq",
        "optimizer.state.layers.0.mlp.weight.exp_avg_sq",
        "state.optimizers.DecoupledAdamW.state.model.wte.weight.exp_avg_sq",
        "last_optimizer_state.state.0.exp_avg_sq",
        "optimizer_state_dict.base_optimizer_state.state.0.exp_avg_sq",
        "optim.state.0.square_avg",
        "state.2.sum",
        "state.layers.0.weight.sum",
        "state.0.exp_inf",
        "state.0.exp_avg_sq_row",
        "opt_state.0.nu.dense.kernel",
        "state.0.state2",
        "netG_optimizer.state.5.square_avg",
        "exp_avg_sq",
    ],
)
def test_second_moments(name: str) -> None:
    assert kind_of(name) == "second-moment"


@pytest.mark.parametrize(
    "name",
    [
        "optimizer.state.0.exp_avg",
        "optimizerG.state.0.momentum_buffer",
        "opt_g.state.0.whatever",
        "g_optim.state.0.whatever",
        "actor_optimizer.state.0.x",
        "state.0.state1",
        "state.12.unheard_of",
        "optim_state_dict.state.0.exp_avg",
        "opt_state.1.mu.dense.kernel",
        "optimizer_state_dict.single_partition_of_fp32_groups.0",
        "model.optimizer_states.0",
        "state.0.momentum_buffer~2",
    ],
)
def test_other_optimizer_state(name: str) -> None:
    assert kind_of(name) == "optimizer-state"


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("l.scales", view("l.qweight", "I32")),
        ("l.weight_scale", view("l.weight", "F8_E4M3")),
        ("l.weight_scale_inv", view("l.weight", "F8_E4M3")),
        ("l.weight_scale_2", view("l.weight", "U8")),
        ("l.weight_zero_point", view("l.weight_packed", "I32")),
        ("l.weight.absmax", view("l.weight", "U8")),
        ("l.weight.nested_quant_map", view("l.weight", "U8")),
        ("l.SCB", view("l.weight", "I8")),
        ("l.scale", view("l.W_q", "U8")),
        ("l.meta.zero", view("l.W_q", "U8")),
        ("l.codebooks", view("l.codes", "I16")),
        ("mlp.gate_up_proj_scales", view("mlp.gate_up_proj_blocks", "U8")),
        ("l.weight._scale", view("l.weight._data", "I8")),
        ("l.k_scale", view("l.weight", "F8_E4M3")),
    ],
)
def test_scales_of_a_quantized_checkpoint(name: str, beside: View) -> None:
    assert kind_of(name, beside, dtype="F16") == "quantized"


def test_scales_of_eight_bits() -> None:
    assert kind_of("l.weight_scale", view("l.weight_packed", "U8"), dtype="F8_E4M3") == "quantized"
    assert kind_of("l.w_scale_thing", dtype="F8_E8M0") == "quantized"


@pytest.mark.parametrize(
    "name",
    [
        "h.0.attn.masked_bias",
        "attn.causal_mask",
        "bn.running_var",
        "bn.num_batches_tracked",
        "embeddings.position_ids",
        "rotary_emb.inv_freq",
        "rotary_emb.cos_cached",
        "freqs_cis",
        "ema.counter",
        "l.g_idx",
        "global_step",
    ],
)
def test_buffers(name: str) -> None:
    assert kind_of(name) == "buffer"


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.weight",
        "optimus.encoder.weight",
        "optimal_transport.weight",
        "opt.decoder.layers.0.fc1.weight",
        "state_encoder.0.weight",
        "state.0.weight",
        "text_model.embeddings.position_embedding.weight",
        "ln.scale",
        "patch_embed.proj.weight",
        "vq.codebook",
        "film.shift",
        "h.0.attn.bias",
        "lstm.weight_ih_l0",
        "net.m",
        "v",
        "transformer.wte",
        "shadow_params.3",
        "moe.experts.0.w1",
        "decoder.step_embedding.weight",
        "summary.weight",
    ],
)
def test_weights_are_weights(name: str) -> None:
    assert kind_of(name, view("embeddings.position_ids", "I64", (1, 512))) is None
