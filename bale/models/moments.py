"""Mean squares and mean products of the inputs that layers of a torch model multiply with their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bale.spec import Array

if TYPE_CHECKING:
    import torch

_ROWS = 1 << 12  # inputs that are summed at a time


@dataclass(frozen=True)
class Layer:
    """The relation between a module's weight and the channels of its input.

    Attributes
    ----------
    axis : int
        The dimension of the input that has the channels, counted from the last.
    shape : tuple of int
        Of one number for each channel, so that it broadcasts to the weight; for one group of several.
    groups : int
        Of a convolution, each of which sees channels of its own.
    """

    axis: int
    shape: tuple[int, ...]
    groups: int = 1

    @classmethod
    def of(cls, module: torch.nn.Module) -> Layer | None:
        """The relation in a linear layer or a convolution; None for any other module."""
        import torch
        from torch.nn.modules.conv import _ConvNd

        if isinstance(module, torch.nn.Linear):
            return cls(-1, (module.in_features,))
        if isinstance(module, _ConvNd) and not module.transposed:
            ones = (1,) * len(module.kernel_size)
            return cls(-1 - len(ones), (module.in_channels // module.groups, *ones), module.groups)
        if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # of transformers, which need not be there
            weight: Any = module.weight
            return cls(-1, (weight.shape[0], 1))
        return None

    def rows(self, inputs: torch.Tensor) -> torch.Tensor:
        """The inputs of all places, shape ``(places, channels)``."""
        moved = inputs.detach().movedim(self.axis, -1)
        return moved.reshape(-1, moved.shape[-1])

    def spread(self, channels: torch.Tensor, weight: torch.Size) -> torch.Tensor:
        """A number for each channel in a shape that broadcasts to the weight's."""
        if self.groups == 1:
            return channels.reshape(self.shape)
        grouped = channels.reshape(self.groups, *self.shape)
        return grouped.repeat_interleave(weight[0] // self.groups, 0)


@dataclass(frozen=True)
class Moments:
    """Statistics of one weight, which has one or more names in the model.

    Attributes
    ----------
    second : float32 array
        Mean squares, which broadcast to `weight`, the weight's shape.
    covariance : float32 array or None
        Mean products of two of their inputs.
    """

    names: tuple[str, ...]
    weight: tuple[int, ...]
    second: Array
    covariance: Array | None


@dataclass
class _Sums:
    """Sums in float64 while inputs arrive; of products, if they are `wide`."""

    layer: Layer
    weight: torch.nn.Parameter
    wide: bool
    count: int = 0
    total: Any = 0

    def add(self, inputs: torch.Tensor) -> None:
        """Take the inputs of one call."""
        import torch

        for rows in torch.split(self.layer.rows(inputs), _ROWS):
            exact = rows.double()
            self.total = self.total + (exact.T @ exact if self.wide else exact.square().sum(0))
            self.count += len(rows)

    def finished(self, names: tuple[str, ...]) -> Moments:
        """The means of all inputs so far."""
        mean = self.total / self.count
        second = self.layer.spread(mean.diagonal() if self.wide else mean, self.weight.shape)
        covariance = mean.float().numpy() if self.wide else None
        return Moments(names, tuple(self.weight.shape), second.float().contiguous().numpy(), covariance)


class Collector:
    """Listens to the layers of a model while it runs; a context manager.

    Parameters
    ----------
    model : torch.nn.Module
        On the CPU.
    covariance : bool
        Whether products of inputs are summed too: n^2 numbers of 8 bytes for each layer of n inputs. Those of grouped
        convolutions are not.
    """

    def __init__(self, model: torch.nn.Module, *, covariance: bool = False) -> None:
        self._model = model
        self._hooks: list[Any] = []
        self._sums: dict[tuple[int, torch.Size], _Sums] = {}
        for module in model.modules():
            layer = Layer.of(module)
            if layer is not None:
                weight: Any = module.weight
                wide = covariance and layer.groups == 1
                sums = self._sums.setdefault(_key(weight), _Sums(layer, weight, wide))
                self._hooks.append(module.register_forward_pre_hook(_listener(sums), with_kwargs=True))

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *problem: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def moments(self) -> Iterator[Moments]:
        """Statistics of every weight that has met an input, in the model's order, once: sums are freed on the way."""
        names: dict[tuple[int, torch.Size], list[str]] = {}
        for name, parameter in self._model.named_parameters(remove_duplicate=False):
            names.setdefault(_key(parameter), []).append(name)
        for key in list(self._sums):
            if self._sums[key].count:
                yield self._sums.pop(key).finished(tuple(names.get(key, ())))


def _key(weight: torch.Tensor) -> tuple[int, torch.Size]:
    """The same for weights that are tied."""
    return weight.data_ptr(), weight.shape


def _listener(sums: _Sums) -> Any:
    def listen(module: torch.nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        sums.add(given[0] if given else next(iter(named.values())))

    return listen
