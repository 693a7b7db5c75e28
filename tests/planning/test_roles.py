"""Names of tensors that are no weights, as trainers, optimizers and quantizers give them; and names of weights."""

from __future__ import annotations

import pytest

from bale.planning.roles import Roles
from bale.planning.rule import parse_rule
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
        "optimizer.state.2.sum",
        "state.0.exp_inf",
        "state.0.exp_avg_sq_row",
        "opt_state.0.nu.dense.kernel",
        "opt_state/0/nu/Dense_0/kernel",
        "optimizer.state.0.state2",
        "netG_optimizer.state.5.square_avg",
        "exp_avg_sq.layers.0.w",
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
        "optimizer.state.0.state1",
        "optim_state_dict.state.0.exp_avg",
        "opt_state.1.mu.dense.kernel",
        "opt_state/0/mu/Dense_0/kernel",
        "optimizer_state_dict.single_partition_of_fp32_groups.0",
        "model.optimizer_states.0",
        "state.0.momentum_buffer~2",
        "exp_avg.layers.0.w",
    ],
)
def test_other_optimizer_state(name: str) -> None:
    assert kind_of(name) == "optimizer-state"


@pytest.mark.parametrize("name", ["state.0.GG.0", "state.0.Q.0", "state.2.factor_matrices.0", "state.12.unheard_of"])
def test_a_container_with_state_holds_nothing_else(name: str) -> None:
    """The file that trainers call optimizer.pt has no name above its ``state``."""
    assert kind_of(name) is None
    assert kind_of(name, view("state.7.step", shape=())) == "optimizer-state"
    assert kind_of(name, view("state.1.exp_avg")) == "optimizer-state"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("inner_state.1.mu.params.dense", "inner_state.1.nu.params.dense"),
        ("0.mu.kernel", "0.nu.kernel"),
        ("adam_m.w", "adam_v.w"),
        ("w_moment1_0", "w_moment2_0"),
        ("w/Adam", "w/Adam_1"),
    ],
)
def test_moments_tell_each_other(first: str, second: str) -> None:
    assert kind_of(first) is None
    assert kind_of(first, view(second)) == "optimizer-state"
    assert kind_of(second, view(first)) == "second-moment"


CHECKPOINTS = {
    "gptq": {"l.qweight": "I32", "l.qzeros": "I32", "l.scales": "F16", "l.g_idx": "I32", "l.bias": "F16"},
    "compressed-tensors": {"l.weight_packed": "I32", "l.weight_scale": "BF16", "l.weight_zero_point": "I32"},
    "fp8": {"l.weight": "F8_E4M3", "l.weight_scale_inv": "F32", "l.input_scale": "F32", "l.k_scale": "F32"},
    "bitsandbytes": {"l.weight": "U8", "l.weight.absmax": "U8", "l.weight.nested_quant_map": "F32"},
    "int8": {"l.weight": "I8", "l.SCB": "F32"},
    "hqq": {"l.W_q": "U8", "l.meta.scale": "F16", "l.meta.zero": "F16", "l.scale": "F16"},
    "mlx": {"l.weight": "U32", "l.scales": "BF16", "l.biases": "BF16"},
    "torchao": {"l.weight": "U8", "l.scales_and_zeros": "BF16"},
    "vptq": {"l.indices": "I32", "l.codes": "I32", "l.centroids.weight": "BF16", "l.res_centroids.weight": "BF16"},
    "aqlm": {"l.codes": "I16", "l.codebooks": "F16", "l.scales": "F16"},
    "quanto": {"l.weight._data": "I8", "l.weight._scale": "BF16", "l.weight._shift": "BF16"},
    "mxfp4": {"m.gate_up_proj_blocks": "U8", "m.gate_up_proj_scales": "F32", "m.gate_up_proj_bias": "BF16"},
}
WEIGHTS_BESIDE_CODES = {"l.bias", "m.gate_up_proj_bias"}


@pytest.mark.parametrize("layout", CHECKPOINTS)
def test_quantized_checkpoints(layout: str) -> None:
    views = [view(name, dtype) for name, dtype in CHECKPOINTS[layout].items()]
    roles = Roles(views)
    for each in views:
        if each.spec.is_float and each.spec.info.bits > 8:
            note = roles.note(each)
            assert (note.kind if note else None) == (None if each.name in WEIGHTS_BESIDE_CODES else "quantized"), each


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


ODD_WEIGHTS = [
    "model.layers.0.self_attn.q_proj.weight",
    "optimus.encoder.weight",
    "optimal_transport.weight",
    "opt.decoder.layers.0.fc1.weight",
    "model.optimizer.weight",
    "learned_optimizer.w",
    "optim_net.weight",
    "optimizer_mlp.0.weight",
    "opt_g.weight",
    "opt_d.layers.0.weight",
    "opt_state_proj.weight",
    "state_encoder.0.weight",
    "state.0.weight",
    "state.0.w",
    "encoder.state.0.kernel",
    "ssm.state.0.A",
    "text_model.embeddings.position_embedding.weight",
    "ln.scale",
    "blk.attn_scale",
    "blk.query_scales",
    "blk.act_shift",
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
    "mask.weight",
    "index.0.weight",
    "count.proj.weight",
    "blk.map",
    "blk.min",
]


@pytest.mark.parametrize("name", ODD_WEIGHTS)
def test_weights_are_weights(name: str) -> None:
    beside = [
        view("embeddings.position_ids", "I64", (1, 512)),
        view("blk.relative_position", "I64"),
        view("vq.ids", "I64"),
    ]
    assert kind_of(name, *beside) is None


STATES = {
    "torch": ["model.l.weight", "optimizer.state.0.exp_avg", "optimizer.state.0.exp_avg_sq", "optimizer.state.0.step"],
    "optax": ["params.Dense_0.kernel", "opt_state.0.mu.Dense_0.kernel", "opt_state.0.nu.Dense_0.kernel"],
    "slashes": ["params/Dense_0/kernel", "opt_state/0/mu/Dense_0/kernel", "opt_state/0/nu/Dense_0/kernel"],
    "fsdp": ["model.l.weight", "optim.state.l.weight.exp_avg", "optim.state.l.weight.exp_avg_sq"],
    "adagrad": ["model.l.weight", "optimizer.state.0.sum", "optimizer.state.0.step"],
    "bytes": ["l.weight", "state.0.state1", "state.0.state2", "state.0.absmax1", "state.0.step"],
    "soap": ["l.weight", "state.0.GG.0", "state.0.exp_avg", "state.0.exp_avg_sq"],
    "flat": ["l.0", "exp_avg.0", "exp_avg_sq.0"],
}


@pytest.mark.parametrize("layout", STATES)
def test_a_rule_that_is_offered_matches_its_kind_alone(layout: str) -> None:
    views = [view(name, "U8" if layout == "bytes" and "state.0.state" in name else "F32") for name in STATES[layout]]
    roles, offered = Roles(views), 0
    kinds = {each.name: note and note.kind for each in views for note in (roles.note(each),)}
    assert kinds[STATES[layout][0]] is None
    assert all(kinds[name] for name in STATES[layout][1:])
    for each in views:
        note = roles.note(each)
        if note is not None and "--rule" in note.text:
            offered += 1
            rule = parse_rule(note.text.split("--rule '")[1].split("'")[0], 1)
            matched = {other.name for other in views if rule.matches(other.name, other.spec)}
            assert each.name in matched
            assert {kinds[name] for name in matched} == {note.kind}
            assert each.spec.is_float
            rule.pipeline.validate(each.spec)
    assert offered or layout == "bytes"
