"""Made-up masks, categories and instance sets for property tests."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.instance import MAX_HANDLE, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask

sizes_hw = st.tuples(st.integers(1, 9), st.integers(1, 9))


def bool_images(size_hw: tuple[int, int]) -> st.SearchStrategy[NDArray[np.bool_]]:
    """Return images of any kind: empty, full, and everything between."""
    return hnp.arrays(np.bool_, size_hw)


@st.composite
def masks_in(draw: st.DrawFn, image_hw: tuple[int, int]) -> CroppedMask:
    """Draw a mask inside an image; boxes of all places and sizes come up."""
    height, width = image_hw
    y = draw(st.integers(0, height - 1))
    x = draw(st.integers(0, width - 1))
    size_hw = draw(st.tuples(st.integers(1, height - y), st.integers(1, width - x)))
    pixels = draw(bool_images(size_hw)).copy()
    pixels[draw(st.integers(0, size_hw[0] - 1)), draw(st.integers(0, size_hw[1] - 1))] = True
    mask = CroppedMask.from_mask(pixels, y=y, x=x)
    assert mask is not None
    return mask


@st.composite
def category_tables(draw: st.DrawFn) -> CategoryTable:
    """Draw one to four categories with gaps between ids and between class indices."""
    ids = draw(st.lists(st.integers(1, 2**31), min_size=1, max_size=4, unique=True))
    numbers = draw(st.lists(st.integers(1, 90), min_size=len(ids), max_size=len(ids), unique=True))
    colors = st.integers(0, 0xFFFFFF).map("#{:06x}".format)
    return CategoryTable(
        categories=tuple(
            Category(id=number, name=f"kind {number} é", color=draw(colors)) for number in ids
        ),
        class_indices=tuple(numbers),
    )


@st.composite
def instance_sets(
    draw: st.DrawFn,
    table: CategoryTable | None = None,
    max_instances: int = 4,
    image_hw: tuple[int, int] | None = None,
) -> InstanceSet:
    """Draw a set with every field filled; overlaps, missing scores and no instance come up."""
    image_hw = draw(sizes_hw) if image_hw is None else image_hw
    table = draw(category_tables()) if table is None else table
    masks = draw(st.lists(masks_in(image_hw), max_size=max_instances))

    def each(values: st.SearchStrategy[Any], **changes: Any) -> list[Any]:
        return draw(st.lists(values, min_size=len(masks), max_size=len(masks), **changes))

    coordinate = st.floats(-5, 20, width=32)
    boxes = st.tuples(*[coordinate] * 4) | st.just((np.nan,) * 4)
    return InstanceSet(
        image_hw=image_hw,
        masks=tuple(masks),
        categories=table,
        category_ids=np.array(each(st.sampled_from([c.id for c in table.categories])), np.int64),
        scores=np.array(each(st.floats(0, 1) | st.just(np.nan)), np.float64),
        handles=np.array(each(st.integers(1, int(MAX_HANDLE)), unique=True), np.int64),
        uuids=tuple(each(st.uuids().map(str), unique=True)),
        states=tuple(each(st.sampled_from(InstanceState))),
        sources=tuple(each(st.text(max_size=5))),
        predicted_boxes_xyxy=np.array(each(boxes), np.float64).reshape(-1, 4),
        edge_uncertainties=np.array(each(st.floats(0, 1) | st.just(np.nan)), np.float64),
    )


def assert_same_instances(left: InstanceSet, right: InstanceSet) -> None:
    """Check that two sets agree in every field, bit for bit."""
    assert left.image_hw == right.image_hw
    assert len(left) == len(right)
    assert all(a.equals(b) for a, b in zip(left.masks, right.masks, strict=True))
    for name in ("uuids", "states", "sources"):
        assert getattr(left, name) == getattr(right, name)
    for name in ("category_ids", "scores", "handles", "predicted_boxes_xyxy", "edge_uncertainties"):
        a, b = getattr(left, name), getattr(right, name)
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), name
