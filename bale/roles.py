"""Tensors that are no weights, recognized by their names and by the tensors beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from bale.notes import Note
from bale.spec import View

# Containers of optimizer state, as trainers call them: optimizer_states.0.state.3.sum, netG_optimizer, opt_state.0.mu
_OPTIMIZER = re.compile(
    r"(^|_)optim(izer)?s?([a-z]|[0-9]+)?(_|$)|(^|_)opt_(states?|dict|g|d|gen|disc|actor|critic)(_|$)"
    r"|fp32_from_fp16_params|single_partition_of_fp32_groups|fp32_flat_groups"
)
# Values that only optimizers keep, wherever they lie
_STATE = re.compile(
    r"(max_|prev_)?exp_(avg|inf|grad|hess)[a-z_]*|momentum_buffer[a-z_]*|square_avg|acc_delta|grad_avg|(neg_)?pre_grad"
    r"|prev_(flat_)?grad|old_dirs|old_stps|slow_buffer|slow_params?|hessian_diag[a-z_]*|preconditioners?|mu_product"
    r"|[ab]bs?max[12]|qmap[12]"
)
# Names that are short for that, in a container called state; elsewhere they may be anything
_SHORT = re.compile(r"sum|prev|step_size|ax|eta|mu|nu|m|v|z|s|p0|d|state[12]|momentum|velocity|hessian")
_SECOND = re.compile(
    r"(max_)?exp_avg_(sq|var)[a-z_]*|square_avg|acc_delta|exp_(inf|hess)[a-z_]*|hessian[a-z_]*|sum|nu|v|state2|max_v"
)

# Numbers that say what the codes of a quantized layer stand for
_SCALE = r"scales?|zero_points?|zeros|scale_inv|scale_2|global_scale|absmax|shift"
_SCALES = re.compile(
    rf"([a-z0-9_]+_)?(weight|input|output|act|activation|kv|k|v|q|attn)_({_SCALE})|([a-z0-9_]+_)?(scale_inv|scales|absmax)"
    r"|q?scales|qzeros|qzero_points?|(nested_)?quant_map|SCB|Wscale|q_scale_max|_(scale|shift|zero_point)"
    r"|(res_|outlier_)centroids"
)
# The same where integers or bytes lie beside them: such names mean other things in other checkpoints
_PERHAPS = re.compile(
    rf"{_SCALE}|zero|s|z|offset|code|codes|codebooks?|centroids?|lut|lookup_table|SU|SV|levels|map|min|max"
)
_BUFFER = re.compile(
    r"([a-z0-9_]+_)?masks?|masked_bias|running_(mean|var)|moving_(mean|variance|average)s?|num_batches_tracked"
    r"|([a-z0-9_]+_)?(ids|idx|indices|index|counters?|counts?)|(global_)?steps?|rng_state[a-z_]*"
    r"|inv_freq|([a-z0-9_]+_)?(cos|sin)(_?(cached|cache|table))?|(cached_)(cos|sin)|freqs(_cis)?|sinusoid[a-z_]*"
)


_SAFELY = "second moments of an optimizer; --rule '{}=positive+int:zero=float' codes them safely"


class Roles:
    """Tells which tensors of a source are no weights.

    Parameters
    ----------
    views : iterable of View
        All tensors of the source: some scales are known by the codes beside them.
    """

    def __init__(self, views: Iterable[View]) -> None:
        self._coded: set[str] = set()  # modules with a matrix of integers, or with bytes
        for view in views:
            module, leaf = _split(view.name)
            info = view.spec.info
            holds_codes = info.bits <= 8 or (info.kind == "int" and len(view.spec.shape) > 1)
            if holds_codes and info.kind != "bool" and not _BUFFER.fullmatch(leaf):
                self._coded.add(module)

    def note(self, view: View) -> Note | None:
        """The reason why a tensor is no weight; None where nothing says so."""
        module, leaf = _split(view.name)
        if _is_state(module, leaf):
            return _optimizer(module, leaf)
        if self._is_scale(view, module, leaf):
            return Note(
                "quantized", "this checkpoint is quantized already, and such tensors say what its codes stand for"
            )
        if _BUFFER.fullmatch(leaf):
            return Note("buffer", "no weights by their names, but masks, statistics, counters or tables")
        return None

    def _is_scale(self, view: View, module: str, leaf: str) -> bool:
        if not view.spec.is_float:
            return False
        if view.spec.dtype == "F8_E8M0" or _SCALES.fullmatch(leaf):
            return True
        beside = module in self._coded or module.rpartition(".")[0] in self._coded
        return beside and _PERHAPS.fullmatch(leaf) is not None


def _split(name: str) -> tuple[str, str]:
    """The module of a tensor and its own name, without the number that tells equal names apart."""
    module, _, leaf = name.rpartition(".")
    return module, leaf.partition("~")[0]


def _is_state(module: str, leaf: str) -> bool:
    if _STATE.fullmatch(leaf) or _holds_state(module):
        return True
    *before, last = module.split(".")
    if last.isdigit() and before and before[-1] == "state":
        return leaf not in ("weight", "bias")
    return "state" in before and _SHORT.fullmatch(leaf) is not None


@lru_cache(maxsize=1 << 12)
def _holds_state(module: str) -> bool:
    """Whether a container, or one around it, is that of an optimizer."""
    return any(_OPTIMIZER.search(each.lower()) for each in module.split("."))


def _optimizer(module: str, leaf: str) -> Note:
    if _SECOND.fullmatch(leaf):
        return Note("second-moment", _SAFELY.format(f"*.{leaf}"))
    if "nu" in module.split("."):
        return Note("second-moment", _SAFELY.format("*.nu.*"))
    return Note("optimizer-state", f"optimizer state; a rule like --rule '*.{leaf}=int8' codes it")
