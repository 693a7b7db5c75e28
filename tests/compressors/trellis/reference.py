"""A plain encoder: Viterbi's algorithm as a textbook has it, one value after the other, in Python's whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

CHECKS = {8: (0o13, 0o4, 3), 32: (0o45, 0o10, 4), 256: (0o515, 0o362, 5)}
STEPS = 1024


def follow(state: int, z: int, states: int) -> int:
    """The state behind a state."""
    h0, h1, _ = CHECKS[states]
    return (state >> 1) ^ ((state & 1) * (h0 >> 1)) ^ (z * (h1 >> 1))


def nearest(position: int, subset: int) -> int:
    """The level nearest to a position (in 128ths of a step) among those that are `subset` modulo 4."""
    return (position - 128 * subset + 256) // 512 * 4 + subset


def cost(position: int, level: int, states: int, weight: int | None) -> int:
    """The squared distance as the search counts it."""
    if weight is not None:
        return (position - 128 * level) ** 2 * weight >> CHECKS[states][2] + 8
    return min(abs(position - 128 * level), 255) ** 2 >> CHECKS[states][2]


def path(positions: Sequence[int], weights: Sequence[int | None], states: int) -> list[int]:
    """Levels of the best path from state 0; of equal ones that with z = 0, and of ends the first state."""
    metrics: dict[int, int] = {0: 0}
    ways: list[dict[int, tuple[int, int]]] = []
    for position, weight in zip(positions, weights, strict=True):
        found: dict[int, tuple[int, int, int]] = {}
        for z in (0, 1):
            for state, metric in metrics.items():
                level = nearest(position, (state & 1) + 2 * z)
                into = follow(state, z, states)
                total = metric + cost(position, level, states, weight)
                if into not in found or total < found[into][0]:
                    found[into] = (total, state, level)
        metrics = {state: total for state, (total, _, _) in found.items()}
        ways.append({state: (before, level) for state, (_, before, level) in found.items()})
    state = min(metrics, key=lambda each: (metrics[each], each))
    levels = []
    for way in reversed(ways):
        state, level = way[state]
        levels.append(level)
    return levels[::-1]


def levels(positions: Sequence[int], states: int, paths: int, weights: Sequence[int] | None = None) -> list[int]:
    """Levels of all elements; those that are missing in the last row of a block count as 0, and weigh nothing."""
    found = [0] * len(positions)
    for start in range(0, len(positions), paths * STEPS):
        block = list(positions[start : start + paths * STEPS])
        rows = -(-len(block) // paths)
        missing = rows * paths - len(block)
        heavy = [None] * len(block) if weights is None else list(weights[start : start + paths * STEPS])
        heavy += [None if weights is None else 0] * missing
        block += [0] * missing
        for lane in range(paths):
            for row, level in enumerate(path(block[lane::paths], heavy[lane::paths], states)):
                at = row * paths + lane
                if start + at < len(positions):
                    found[start + at] = level
    return found
