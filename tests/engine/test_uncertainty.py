"""How unsure the network is where a mask ends, on masks that a person can add up."""

from types import ModuleType

import numpy as np
import pytest
import torch
from tests.engine.networks import noise, slim_engine

from napari_deeppixel.engine import paste_jit, uncertainty
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.uncertainty import edge_uncertainties


@pytest.fixture(params=[None, paste_jit], ids=["torch", "compiled"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType | None:
    """Measure with and without the compiled kernel."""
    monkeypatch.setattr(uncertainty, "kernels", lambda _name: request.param)
    return request.param


def masks(*pictures: list[list[float]]) -> torch.Tensor:
    return torch.tensor(pictures)[:, None]


def disc(side: int, softness: float) -> list[list[float]]:
    """Return a disc whose edge goes from 0 to 1 over about a share of its radius."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return (1 / (1 + np.exp((np.hypot(y, x) / side - 0.3) / softness))).tolist()


def test_a_step_between_sure_cells_is_not_unsure() -> None:
    assert edge_uncertainties(masks([[0, 0, 0], [0, 1, 1], [0, 1, 1]])).tolist() == [0]


def test_the_mean_is_over_inside_cells_and_their_neighbours() -> None:
    # inside: the last cell, 4 * 0.5 * 0.5 = 1; its neighbours 0.25 (3/4), 0, 0.25 (3/4); the
    # far 0.4 does not count
    picture = [[0.4, 0.4, 0.4], [0.4, 0.0, 0.25], [0.4, 0.25, 0.5]]
    assert edge_uncertainties(masks(picture)).tolist() == pytest.approx([(1 + 0.75 + 0.75) / 4])


def test_softer_edges_rank_above_sharper_ones_at_any_size() -> None:
    small = edge_uncertainties(masks(*[disc(28, softness) for softness in (0.01, 0.03, 0.06)]))
    large = edge_uncertainties(masks(*[disc(112, softness) for softness in (0.01, 0.03, 0.06)]))
    assert small[0] < small[1] < small[2] < 1
    # the ring of neighbours is a cell wide, which is less of a finer grid
    np.testing.assert_allclose(small, large, atol=0.1)


def test_without_an_inside_cell_it_is_unknown() -> None:
    values = edge_uncertainties(masks([[0.4, 0.4], [0.4, 0.4]], [[1, 1], [1, 1]]))
    assert np.isnan(values[0])
    assert values[1] == 0


def test_torch_and_the_kernel_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(0)) ** 4
    values = edge_uncertainties(noisy)
    monkeypatch.setattr(uncertainty, "kernels", lambda _name: None)
    assert values.tolist() == edge_uncertainties(noisy).tolist()


def test_no_mask_gives_no_number() -> None:
    values = edge_uncertainties(torch.zeros((0, 1, 28, 28)))
    assert values.shape == (0,)
    assert values.dtype == np.float64


def test_a_prediction_carries_the_number_of_each_of_its_masks() -> None:
    engine = slim_engine()
    seen = []
    hook = engine.model.register_forward_hook(lambda _module, _inputs, out: seen.append(out[0]))
    try:
        (prediction,) = engine.predict([noise(40, 56)], PredictOptions(max_instances=30))
    finally:
        hook.remove()
    # each candidate is one of the detections; its score tells which
    expected = dict(
        zip(seen[0]["scores"].tolist(), edge_uncertainties(seen[0]["masks"]), strict=True)
    )
    candidates = prediction.candidates
    assert len(candidates) > 10
    wanted = [expected[score] for score in candidates.scores]
    assert candidates.edge_uncertainties.tolist() == wanted
    assert np.unique(candidates.edge_uncertainties).size > 10
