"""Tensors that are not weights, recognized by their names and by the tensors beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache

from bale.notes import Note
from bale.spec import View

# Containers that say they hold optimizer state, as trainers call them: optimizer_states.0.state.3.sum, opt_state.0.mu
_CONTAINER = re.compile(
    r"(last_|base_)*(optim|optimizer|opt)(_[a-z0-9]{1,8})?_states?(_dict)?s?|optimizer_state_dicts?"
    r"|fp32_from_fp16_params|single_partition_of_fp32_groups|fp32_flat_groups",
    re.IGNORECASE,
)
# Those that may be a module too, and hold state only if what lies in them says so: optimizer, netG_optimizer, opt_g
_PERHAPS_CONTAINER = re.compile(r"(^|_)optim(izer)?s?([a-z]|[0-9]+)?(_|$)|(^|_)opt(_|$)", re.IGNORECASE)
# Values that only optimizers keep, wherever they lie
_STATE = re.compile(
    r"(max_|prev_)?exp_(avg|inf|grad|hess)[a-z_]*|momentum_buffer[a-z_]*|square_avg|acc_delta|grad_avg|(neg_)?pre_grad"
    r"|prev_(flat_)?grad|old_dirs|old_stps|slow_buffer|slow_params?|hessian_diag[a-z_]*|mu_product|qmap[12]|absmax[12]"
)
# Names that are short for that, in a container of state; elsewhere they may be anything
_SHORT = re.compile(
    r"steps?|sum|prev|step_size|ax|eta|mu|nu|m|v|z|s|p0|d|state[12]|momentum|momentums|velocity|velocities|hessian|trace"
    r"|preconditioners?|factor_matrices|inv_factor_matrices|GG?|Q|QL|QR|L|R|count"
)
_SECOND = re.compile(
    r"(max_)?exp_avg_(sq|var)[a-z_]*|square_avg|acc_delta|exp_(inf|hess)[a-z_]*|hessian[a-z_]*|sum|nu|v|state2|max_v"
    r"|velocities|(.*_)?moment2(_.*)?|second_moment|Adam_1|adam_v"
)
# First and second moments of one weight, each recognized by the other: params of optax, of Paddle, of TensorFlow
_TWINS = (
    ("mu", "nu"),
    ("adam_m", "adam_v"),
    ("moment1", "moment2"),
    ("first_moment", "second_moment"),
    ("Adam", "Adam_1"),
)

# Numbers that say what the codes of a quantized layer stand for
_SCALE = r"scales?|zero_points?|zeros|scale_inv|scale_2|global_scale|absmax|shift"
_SCALES = re.compile(
    rf"([a-z0-9_]+_)?(weight|input|output|act|activation|kv|k|v|q|attn)_({_SCALE})|([a-z0-9_]+_)?(scale_inv|scales|absmax)"
    r"|q?scales|qzeros|qzero_points?|(nested_)?quant_map|SCB|Wscale|q_scale_max|_(scale|shift|zero_point)"
    r"|scales?_and_zeros?|(res_|outlier_)?centroids"
)
_OF_CODES = re.compile(r"(.*_)?(weight|bias)|lora_.*|adapter.*|W|kernel")  # may be weights beside codes
_WITHIN = {"meta", "weight", "quant_state", "qparams", "centroids", "res_centroids", "outlier_centroids"}
_BUFFER = re.compile(
    r"([a-z0-9_]+_)?masks?|masked_bias|running_(mean|var)|moving_(mean|variance|average)s?|num_batches_tracked"
    r"|([a-z0-9_]+_)?(ids|idx|indices|index|counters?|counts?)|(global_)?steps?|rng_state[a-z_]*"
    r"|inv_freq|([a-z0-9_]+_)?(cos|sin)(_?(cached|cache|table))?|(cached_)(cos|sin)|freqs(_cis)?|sinusoid[a-z_]*"
)
_SPLIT = re.compile(r"[./]")


@dataclass(frozen=True)
class _Name:
    """A tensor's name in its parts, without the number that makes equal names distinct."""

    text: str

    @cached_property
    def parts(self) -> tuple[str, ...]:
        return tuple(_SPLIT.split(self.text.partition("~")[0]))

    @property
    def leaf(self) -> str:
        return self.parts[-1]

    @property
    def module(self) -> tuple[str, ...]:
        return self.parts[:-1]


class Roles:
    """Determines which tensors of a source are not weights.

    Parameters
    ----------
    views : iterable of View
        All tensors of the source: state is known by what else its container holds, scales by the codes beside them.
    """

    def __init__(self, views: Iterable[View]) -> None:
        self._views = tuple(views)
        self._names = {view.name for view in self._views}
        self._containers: set[tuple[str, ...]] = set()
        self._coded: set[tuple[str, ...]] = set()  # modules with a matrix of short integers, or with bytes
        self._safe: dict[str, bool] = {}
        self._has_codes = any(map(_holds_codes, self._views))
        for view in self._views:
            name = _Name(view.name)
            if _MAY_BE_STATE.search(view.name):
                self._containers.update(_state_containers(name.parts))
            if _holds_codes(view) and name.module and not _is_buffer(name.leaf):
                self._coded.add(name.module)

    def note(self, view: View) -> Note | None:
        """The reason why a tensor is no weight; None where nothing says so."""
        name = _Name(view.name)
        kind = self._moment(name)
        if kind is not None:
            return Note(kind, self._advice(view, name, kind))
        if self._is_scale(view, name):
            return _QUANTIZED
        if _is_buffer(name.leaf):
            return Note("buffer", "no weights by their names, but masks, statistics, counters or tables")
        return None

    def _moment(self, name: _Name) -> str | None:
        """The kind of a tensor that an optimizer keeps; None for all others."""
        if not _MAY_BE_STATE.search(name.text):
            return None
        parts = name.parts
        within = any(parts[:end] in self._containers for end in range(1, len(parts)))
        if not within and not any(map(_is_state, parts)) and self._twin(name) is None:
            return None
        short = _SHORT if within else _NOTHING
        signs = [part for part in parts if _is_state(part) or short.fullmatch(part) or part in _TWIN_NAMES]
        second = any(_SECOND.fullmatch(part) for part in signs) or self._twin(name) == 1
        return "second-moment" if second else "optimizer-state"

    def _twin(self, name: _Name) -> int | None:
        """Whether a name is that of a first moment (0) or a second one (1) beside which the other is there."""
        for pair in _TWINS if _ANY_TWIN.search(name.text) else ():
            for which, (mine, other) in enumerate((pair, pair[::-1])):
                pattern = rf"(?<![A-Za-z0-9]){mine}(?![A-Za-z0-9]|_1)"
                if re.search(pattern, name.text) and re.sub(pattern, other, name.text, count=1) in self._names:
                    return which
        return None

    def _advice(self, view: View, name: _Name, kind: str) -> str:
        """Its role, and a rule that codes it and others of its kind alone, where there is one."""
        second = kind == "second-moment"
        what = "second moments of an optimizer" if second else "optimizer state"
        pattern = _glob(name)
        if pattern is None or not view.spec.is_float or view.spec.info.packed or not self._is_safe(pattern, kind):
            return what
        if second:
            return f"{what}; --rule '{pattern}=positive+int:zero=float' codes them safely"
        return f"{what}; a rule like --rule '{pattern}=int8' codes it"

    def _is_safe(self, pattern: str, kind: str) -> bool:
        """Whether a pattern matches tensors of one kind alone."""
        if pattern not in self._safe:
            found = (view for view in self._views if fnmatchcase(view.name, pattern))
            self._safe[pattern] = all(self._moment(_Name(view.name)) == kind for view in found)
        return self._safe[pattern]

    def _is_scale(self, view: View, name: _Name) -> bool:
        if not view.spec.is_float:
            return False
        if view.spec.dtype == "F8_E8M0":
            return True
        if not self._has_codes:
            return False
        if _SCALES.fullmatch(name.leaf):
            return True
        module = name.module
        if module in self._coded:
            return not _OF_CODES.fullmatch(name.leaf) and not _holds_codes(view)
        return bool(module) and module[-1] in _WITHIN and module[:-1] in self._coded


_TWIN_NAMES = {name for pair in _TWINS for name in pair}
_MAY_BE_STATE = re.compile(
    r"opt|state|fp32_|exp_|momentum|square_avg|acc_delta|grad|old_|slow_|hessian|m[u_]|nu|moment|adam", re.IGNORECASE
)  # parts of every name that is looked at more closely
_ANY_TWIN = re.compile("|".join(sorted(_TWIN_NAMES)))
_NOTHING = re.compile(r"(?!)")
_QUANTIZED = Note("quantized", "this checkpoint is quantized already, and such tensors say what its codes stand for")


def _holds_codes(view: View) -> bool:
    """Whether a tensor may hold codes: bytes, or a matrix of integers that are shorter than those of index tables."""
    info = view.spec.info
    if info.kind == "bool":
        return False
    return info.bits <= 8 or (info.kind == "int" and info.bits < 64 and len(view.spec.shape) > 1)


def _state_containers(parts: Sequence[str]) -> Iterable[tuple[str, ...]]:
    """The containers of optimizer state that the path of a tensor proves."""
    for at, part in enumerate(parts[:-1]):
        rest = parts[at + 1 :]
        certain = _is_container(part)
        perhaps = _is_perhaps_container(part) and ("state" in rest[:-1] or any(_is_sign(each) for each in rest))
        state = part == "state" and len(rest) > 1 and any(_is_state(each) or each == "step" for each in rest[1:])
        if certain or perhaps or state:
            yield tuple(parts[: at + 1])


@lru_cache(maxsize=1 << 14)
def _is_buffer(leaf: str) -> bool:
    return _BUFFER.fullmatch(leaf) is not None


@lru_cache(maxsize=1 << 14)
def _is_container(part: str) -> bool:
    return _CONTAINER.fullmatch(part) is not None


@lru_cache(maxsize=1 << 14)
def _is_perhaps_container(part: str) -> bool:
    return _PERHAPS_CONTAINER.search(part) is not None


@lru_cache(maxsize=1 << 14)
def _is_state(part: str) -> bool:
    return _STATE.fullmatch(part) is not None


def _is_sign(part: str) -> bool:
    """Whether a part says, within a container that may be an optimizer, that it is one."""
    return _is_state(part) or part in ("mu", "nu", "m", "v", "momentums", "velocities", "trace")


def _glob(name: _Name) -> str | None:
    """A pattern for tensors that are called like one within their container; None where its name says too little."""
    separator = "/" if "/" in name.text and "." not in name.text else "."
    parts = name.parts
    if any(letter in name.text for letter in "*?[]'=~"):
        return None
    at = next((at for at, part in enumerate(parts) if _is_state(part)), None)
    if at is None:
        at = next((at for at, part in enumerate(parts) if part in _TWIN_NAMES or (at and _SHORT.fullmatch(part))), None)
    if at is None:
        return None
    if at == len(parts) - 1:
        before = next((part for part in parts[:at] if part == "state" or _is_container(part)), None)
        if _is_state(parts[at]):
            return f"*{parts[at]}" if at == 0 else f"*{separator}{parts[at]}"
        return None if before is None else f"*{before}{separator}*{separator}{parts[at]}"
    before = next((part for part in parts[:at] if _is_container(part) or _is_perhaps_container(part)), "")
    return f"*{before}*{separator}{parts[at]}{separator}*" if at else f"{parts[at]}{separator}*"
