"""What layers of a torch model are multiplied with, computed by hand."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from bale.models.moments import Collector, Moments


def collected(model: torch.nn.Module, *inputs: torch.Tensor, covariance: bool = False) -> dict[str, Moments]:
    with torch.no_grad(), Collector(model, covariance=covariance) as collector:
        for each in inputs:
            model(each)
    return {moments.names[0]: moments for moments in collector.moments()}


def fits(moments: Moments) -> bool:
    """Whether mean squares broadcast to the weight's shape."""
    return np.broadcast_shapes(moments.second.shape, moments.weight) == moments.weight


def test_a_linear_layer() -> None:
    """Two calls, of three places and of one: (1 + 9 + 25 + 0) / 4 and (4 + 16 + 36 + 4) / 4."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False))
    found = collected(model, torch.tensor([[[1.0, 2.0], [3.0, -4.0], [5.0, 6.0]]]), torch.tensor([0.0, 2.0]))
    assert list(found) == ["0.weight"]
    assert found["0.weight"].second.dtype == np.float32
    assert found["0.weight"].second.tolist() == [8.75, 15]
    assert found["0.weight"].weight == (3, 2)
    assert found["0.weight"].covariance is None


def test_what_goes_into_the_second_layer() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[2.0], [-1.0]])
        model[0].bias[:] = torch.tensor([0.0, 1.0])
    found = collected(model, torch.tensor([[1.0], [3.0]]))
    assert found["2.weight"].second.tolist() == [(4 + 36) / 2, 0]


def test_products_of_two_inputs() -> None:
    model = torch.nn.Linear(2, 1)
    found = collected(model, torch.tensor([[1.0, 2.0], [3.0, -4.0]]), covariance=True)["weight"]
    assert found.second.tolist() == [5, 10]
    assert found.covariance is not None
    assert found.covariance.tolist() == [[5, -5], [-5, 10]]


class Conv1D(torch.nn.Module):
    """As in transformers: a linear layer with its weight stored (in, out)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = torch.nn.Parameter(torch.ones(nx, nf))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def test_a_matrix_stored_the_other_way() -> None:
    found = collected(Conv1D(3, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))["weight"]
    assert found.second.tolist() == [[5], [10]]
    assert fits(found)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("batched", [True, False])
def test_convolutions_by_channel(dimensions: int, batched: bool) -> None:
    kind = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[dimensions - 1]
    values = torch.ones(2, *(4,) * dimensions)
    values[1] = 3
    values[(0, *(0,) * dimensions)] = 5
    found = collected(kind(2, 3, 2, padding=1), values[None] if batched else values, covariance=True)["weight"]
    places = 4**dimensions
    assert found.second.shape == (2, *(1,) * dimensions)
    assert found.second.reshape(-1).tolist() == pytest.approx([(places - 1 + 25) / places, 9])
    assert found.covariance is not None
    assert found.covariance[0, 1] == pytest.approx((3 * (places - 1) + 15) / places)
    assert fits(found)


def test_groups_see_channels_of_their_own() -> None:
    """Four channels of 1, 2, 3 and 4; the first three filters see the first two."""
    values = torch.arange(1.0, 5).reshape(4, 1).repeat(1, 6)
    found = collected(torch.nn.Conv1d(4, 6, 3, groups=2), values, covariance=True)["weight"]
    assert found.second[:, :, 0].tolist() == [[1, 4]] * 3 + [[9, 16]] * 3
    assert found.covariance is None
    assert fits(found)
    depthwise = collected(torch.nn.Conv1d(4, 4, 3, groups=4), values)["weight"]
    assert depthwise.second.tolist() == [[[1]], [[4]], [[9]], [[16]]]


class Tied(torch.nn.Module):
    """An embedding whose matrix comes back as the last layer, a layer that is used twice, and one that never is."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(4, 2)
        self.head = torch.nn.Linear(2, 4, bias=False)
        self.head.weight = self.embedding.weight
        self.twice = torch.nn.Linear(2, 2, bias=False)
        self.unused = torch.nn.Linear(2, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        return self.head(input=self.twice(self.twice(x)))


def test_tied_and_shared_weights() -> None:
    model = Tied()
    with torch.no_grad():
        model.embedding.weight[:] = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
        model.twice.weight[:] = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    with torch.no_grad(), Collector(model) as collector:
        model(torch.tensor([1, 2]))
    found = {moments.names: moments.second.tolist() for moments in collector.moments()}
    # (2, 0) becomes (0, 4), then (4, 0); (0, 3) becomes (3, 0), then (0, 6).
    assert found == {
        ("embedding.weight", "head.weight"): [(16 + 0) / 2, (0 + 36) / 2],
        ("twice.weight",): [(4 + 0 + 0 + 9) / 4, (0 + 16 + 9 + 0) / 4],
    }


def test_sums_are_exact_over_many_places() -> None:
    """In float32 the small ones would vanish behind the large one."""
    values = torch.full((1 << 16, 1), 2.0**-13)
    values[0] = 4096.0
    second = collected(torch.nn.Linear(1, 1), values)["weight"].second
    assert second[0] == np.float32((2.0**24 + (2**16 - 1) * 2.0**-26) / 2**16)


def test_it_listens_only_within() -> None:
    model = torch.nn.Linear(1, 1)
    with Collector(model) as collector:
        pass
    model(torch.ones(1))
    assert not list(collector.moments())


def test_sums_go_as_they_are_finished() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    with torch.no_grad(), Collector(model, covariance=True) as collector:
        model(torch.ones(4, 2))
    alive = [weakref.ref(sums) for sums in collector._sums.values()]
    found = collector.moments()
    next(found)
    assert [sums() is None for sums in alive] == [True, False]
    next(found)
    assert [sums() is None for sums in alive] == [True, True]
