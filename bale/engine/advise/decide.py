"""Which advice follows from what was measured: numbers in, words out; no file is looked at here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from bale.notes import many, size
from bale.report.advice import Choice, LowRank, Sent, Step

FAST, MAX_EFFORT = "", "-p lossless:effort=max"
PRESET = "--bits 4.5"  # the one that is advised
_WORTH = 0.99  # share of the fast lossless bytes from which on the largest effort is not worth its time
_MUCH = 0.5  # share of bytes from which on a source is of a kind
_SOME = 0.02
_APART = 2  # times the error of all together from which on the worst tensor's is told too
_EVALUATE = "the error of weights is not the quality of the model: evaluate what comes back on your own task"


@dataclass(frozen=True)
class Facts:
    """What the advice depends on.

    Attributes
    ----------
    size, moments, quantized : int
        Bytes of the source, of optimizer moments in it, and of what is quantized already.
    choices : sequence of Choice
        All that was predicted; without loss, fast, always.
    low_rank : sequence of LowRank
        Where it pays.
    """

    size: int
    moments: int
    quantized: int
    choices: Sequence[Choice]
    low_rank: Sequence[LowRank] = ()

    def choice(self, options: str) -> Choice | None:
        """The choice with these options, if there is one."""
        return next((each for each in self.choices if each.options == options), None)

    @property
    def is_quantized(self) -> bool:
        """Whether most of it is quantized already."""
        return self.quantized > _MUCH * self.size


def for_storage(facts: Facts) -> list[Step]:
    """First a command that keeps every bit, then one that loses some, then what may be better for some tensors."""
    kept = _best_lossless(facts)
    steps = [Step(kept.options, f"{_about(kept, facts)}, and every bit comes back", _NO_RISK)]
    lossy = facts.choice(PRESET)
    if facts.is_quantized:
        share = f"{100 * facts.quantized / facts.size:.0f} %"
        return [Step(kept.options, f"{_about(kept, facts)}; {share} is quantized already: leave it lossless", _NO_RISK)]
    if lossy is None or lossy.size >= kept.size:
        return steps
    steps.append(Step(PRESET, f"{_about(lossy, facts)}, {_error(lossy)}", _risk(facts)))
    if facts.low_rank:
        number = many(len(facts.low_rank), "tensor")
        rules = " ".join(f"--rule {quote(each.rule)}" for each in facts.low_rank[:3])
        why = f"to be tried: low rank may save more on {number}; compare the sizes of both"
        steps.append(Step(f"{PRESET} {rules}", why, _risk(facts)))
    return steps


def for_transfer(facts: Facts, sent: Sequence[Sent]) -> list[Step]:
    """The way that is fastest end to end without loss, and the one with loss, if it is faster still."""
    exact = [each for each in sent if each.options is None or _is_exact(facts, each)]
    best = min(exact, key=lambda each: each.total)
    if best.options is None:
        steps = [Step(None, "sending it as it is takes the least time: do not compress for this transfer", _NO_RISK)]
    else:
        plain = next(each for each in sent if each.options is None)
        why = f"about {seconds(best.total)} end to end, as it is {seconds(plain.total)}; every bit arrives"
        steps = [Step(best.options, why, _NO_RISK)]
    lossy = [each for each in sent if each not in exact]
    if lossy and not facts.is_quantized:
        found = next((each for each in lossy if each.options == PRESET), min(lossy, key=lambda each: each.total))
        if found.total < best.total and found.options is not None:
            steps.append(Step(found.options, f"about {seconds(found.total)} end to end, with loss", _risk(facts)))
    return steps


def for_inference(facts: Facts, choices: Sequence[Choice]) -> list[Step]:
    """Quantizers whose codes are like those that runtimes use."""
    if facts.is_quantized:
        return [
            Step("", "it is quantized already, and comes back as it is: decompress the archive before use", _NO_RISK)
        ]
    why = "about {size}, {error}; {use}; decompress the archive before use"
    uses = {"-p int8": "one scale a row", "-p int4": "one scale for 64 weights"}
    return [
        Step(
            each.options,
            why.format(size=size(each.size), error=_error(each), use=uses.get(each.options, "codes and scales")),
            _risk(facts),
        )
        for each in choices
        if each.error
    ]


def send(size: int, choices: Sequence[Choice], bandwidth: float) -> list[Sent]:
    """Times end to end, at bytes a second: of the source as it is, and of each choice whose times are known."""
    found = [Sent(None, size, 0.0, size / bandwidth, 0.0)]
    for each in choices:
        if each.compress is not None and each.decompress is not None:
            found.append(Sent(each.options, each.size, each.compress, each.size / bandwidth, each.decompress))
    return found


def seconds(value: float) -> str:
    """A time for people."""
    if value < 100:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 100 * 60 else f"{value / 3600:.1f} h"


_NO_RISK = "none: the archive is verified before it takes its name"


def _best_lossless(facts: Facts) -> Choice:
    fast, most = facts.choice(FAST), facts.choice(MAX_EFFORT)
    assert fast is not None
    return most if most is not None and most.size < _WORTH * fast.size else fast


def _is_exact(facts: Facts, sent: Sent) -> bool:
    found = facts.choice(sent.options) if sent.options is not None else None
    return found is not None and not found.error


def _about(choice: Choice, facts: Facts) -> str:
    return f"about {size(choice.size)}, {100 * choice.size / facts.size:.0f} % of the source"


def _risk(facts: Facts) -> str:
    if facts.moments > _SOME * facts.size:
        return f"training that goes on from rounded optimizer moments goes another way; {_EVALUATE}"
    return _EVALUATE


def _error(choice: Choice) -> str:
    """The error in words: one of all together hides that of tensors with small values."""
    text = f"error about {_percent(choice.error)}"
    return f"{text}, of one tensor {_percent(choice.worst)}" if choice.worst > _APART * choice.error else text


def _percent(error: float) -> str:
    return f"{100 * error:.2g} %"
