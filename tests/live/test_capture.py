from typing import Any

import numpy as np
import pytest
from tests.live.made_results import made_result

from napari_deeppixel.live.capture import AutoCapture, CapturePolicy
from napari_deeppixel.live.result import LiveResult


def _frame(brightness: float, dtype: Any = np.uint8) -> Any:
    return np.full((48, 64), brightness, dtype)


def _decisions(policy: CapturePolicy, results: list[LiveResult]) -> list[str | None]:
    capture = AutoCapture(policy)
    return [capture.decide(result) for result in results]


def test_one_frame_every_two_seconds() -> None:
    # ten frames a second
    results = [made_result(n) for n in range(61)]
    reasons = _decisions(CapturePolicy(kind="interval", every_s=2), results)

    assert [n for n, reason in enumerate(reasons) if reason] == [0, 20, 40, 60]
    assert reasons[20] == "every 2 s"


@pytest.mark.parametrize("kind", ["uncertain", "novel", "interval"])
def test_never_more_than_the_limit_nor_sooner_than_the_gap(kind: Any) -> None:
    policy = CapturePolicy(kind=kind, every_s=0.1, threshold=0.1, limit=3, min_gap_s=0.5)
    results = [
        made_result(n, scores=(0.51, 0.52), pixels=_frame(60 * (n % 4) + n // 10))
        for n in range(50)
    ]
    capture = AutoCapture(policy)

    captured = [n for n, result in enumerate(results) if capture.decide(result)]

    assert len(captured) == 3
    assert min(np.diff(captured)) >= 5
    assert capture.num_captured == 3
    assert capture.is_full


def test_a_frame_is_uncertain_if_half_of_its_scores_are_hardly_shown() -> None:
    policy = CapturePolicy(kind="uncertain", threshold=0.5, min_gap_s=0)
    results = [
        made_result(0, handles=(1, 2, 3, 4), scores=(0.55, 0.9, 0.95, 0.99)),
        made_result(1, handles=(1, 2, 3, 4), scores=(0.55, 0.59, 0.95, 0.99)),
    ]
    assert _decisions(policy, results) == [None, "2 of 4 instances in doubt"]


def test_what_is_near_moves_with_the_shown_score() -> None:
    capture = AutoCapture(CapturePolicy(kind="uncertain", min_gap_s=0), shown_score=0.5)
    result = made_result(0, scores=(0.85, 0.88))
    assert capture.decide(result) is None
    capture.shown_score = 0.8
    assert capture.decide(result) == "2 of 2 instances in doubt"


def test_unsure_edges_make_a_frame_uncertain_though_the_scores_are_high() -> None:
    policy = CapturePolicy(kind="uncertain", min_gap_s=0)
    sharp = made_result(0, scores=(0.99, 0.99), edges=(0.2, 0.3))
    blurred = made_result(1, scores=(0.99, 0.99), edges=(0.2, 0.5))
    assert _decisions(policy, [sharp, blurred]) == [None, "1 of 2 instances in doubt"]


def test_without_instances_or_scores_nothing_is_uncertain() -> None:
    policy = CapturePolicy(kind="uncertain", min_gap_s=0)
    results = [made_result(0, handles=()), made_result(1, scores=(np.nan, np.nan))]
    assert _decisions(policy, results) == [None, None]


def test_what_was_kept_before_is_not_novel() -> None:
    policy = CapturePolicy(kind="novel", min_gap_s=0)
    results = [made_result(n, pixels=_frame(b)) for n, b in enumerate((50, 60, 200, 195, 52))]
    reasons = _decisions(policy, results)
    assert reasons == ["the first frame", None, "new brightness", None, None]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_change_of_light_is_novel_for_every_type(dtype: Any) -> None:
    policy = CapturePolicy(kind="novel", min_gap_s=0)
    ramp = np.tile(np.linspace(60, 120, 64), (48, 1))
    pixels = [(ramp + light).astype(dtype) for light in (0, 5, 60)]
    results = [made_result(n, handles=(), pixels=p) for n, p in enumerate(pixels)]
    assert _decisions(policy, results) == ["the first frame", None, "new brightness"]


def test_larger_and_more_instances_are_novel() -> None:
    policy = CapturePolicy(kind="novel", min_gap_s=0)
    grey = _frame(90)
    results = [
        made_result(0, side=5, pixels=grey),
        made_result(1, side=6, pixels=grey),
        # 144 pixels are 5.8 times 25
        made_result(2, side=12, pixels=grey, handles=(1, 2)),
        made_result(3, side=5, pixels=grey, handles=(1, 2, 3, 11, 12, 13)),
    ]
    assert _decisions(policy, results) == [
        "the first frame",
        None,
        "new size of instances",
        "new number of instances",
    ]


def test_frames_of_other_shapes_and_without_finite_pixels_are_judged_too() -> None:
    policy = CapturePolicy(kind="novel", min_gap_s=0)
    odd = [np.full((48, 64), np.nan), np.ones((5, 7), np.bool_), np.zeros((50, 60, 2), np.uint8)]
    results = [made_result(n, handles=(), pixels=pixels) for n, pixels in enumerate(odd)]
    assert _decisions(policy, results)[0] == "the first frame"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "all"}, "kind must be"),
        ({"kind": "novel", "threshold": 0}, "threshold must lie"),
        ({"kind": "interval", "every_s": 0}, "every_s must be above 0"),
        ({"kind": "interval", "limit": 0}, "limit must be 1 or more"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CapturePolicy(**wrong)
