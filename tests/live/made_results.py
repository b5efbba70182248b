"""Results whose masks a person can check: squares that go to the right."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame

CELL = CategoryTable.from_names("cell")


def made_frame(
    number: int,
    *,
    image_hw: tuple[int, int] = (48, 64),
    grabbed_s: float | None = None,
    pixels: NDArray[Any] | None = None,
    stream: int = 1,
) -> Frame:
    """Return a frame of one brightness, ten a second unless said."""
    if pixels is None:
        pixels = np.full((*image_hw, 3), 40 + number % 150, np.uint8)
    grabbed_s = 1000 + number / 10 if grabbed_s is None else grabbed_s
    return Frame(
        pixels=pixels, number=number, grabbed_s=grabbed_s, device_s=number / 10, stream=stream
    )


def made_result(
    number: int,
    *,
    handles: tuple[int, ...] = (1, 2),
    scores: tuple[float, ...] | None = None,
    edges: tuple[float, ...] | None = None,
    side: int = 8,
    categories: CategoryTable = CELL,
    model: str = "squares@0123",
    frame: Frame | None = None,
    **of_frame: Any,
) -> LiveResult:
    """Return a frame with squares: handle h has its upper left corner at (10 h, number % 20)."""
    frame = frame or made_frame(number, **of_frame)
    pixels = np.ones((side, side), np.bool_)
    masks = tuple(CroppedMask(pixels=pixels, y=10 * h % 40, x=number % 20) for h in handles)
    instances = InstanceSet(
        image_hw=frame.image_hw,
        masks=masks,
        categories=categories,
        scores=np.full(len(masks), 0.9) if scores is None else np.array(scores),
        handles=np.array(handles, np.int64),
        edge_uncertainties=np.array(edges or [np.nan] * len(masks)),
    )
    return LiveResult(
        frame=frame,
        instances=instances,
        model=model,
        model_s=0.1,
        finished_s=frame.grabbed_s + 0.12,
    )
