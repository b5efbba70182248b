"""Annotated images to try formats and the dataset on."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.core.strategies import category_tables, instance_sets, sizes_hw

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split

CELLS = CategoryTable(
    categories=(
        Category(id=4, name="nucleus", color="#56b4e9", key="1"),
        Category(id=2, name="cell body", color="#e69f00", key="2"),
    )
)
# an odd size, H != W
ELEVEN_HW = (90, 120)


def disc(y: float, x: float, radius: float, image_hw: tuple[int, int] = ELEVEN_HW) -> CroppedMask:
    """Return the pixels whose centre lies within a circle about an array index."""
    rows, columns = np.ogrid[: image_hw[0], : image_hw[1]]
    return cropped((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def cropped(pixels: NDArray[np.bool_]) -> CroppedMask:
    mask = CroppedMask.from_mask(pixels)
    assert mask is not None
    return mask


def eleven_masks() -> dict[str, CroppedMask]:
    """Return the shapes that formats trip over, by name."""

    def rectangle(y1: int, x1: int, y2: int, x2: int) -> NDArray[np.bool_]:
        pixels = np.zeros(ELEVEN_HW, bool)
        pixels[y1:y2, x1:x2] = True
        return pixels

    ring = disc(15, 45, 10).to_mask(ELEVEN_HW) & ~disc(15, 45, 4).to_mask(ELEVEN_HW)
    diagonal = np.zeros(ELEVEN_HW, bool)
    diagonal[np.arange(60, 70), np.arange(30, 40)] = True
    return {
        "disc": disc(15, 15, 10),
        "ring": cropped(ring),
        "two parts": cropped(rectangle(5, 65, 12, 72) | rectangle(20, 70, 26, 80)),
        "under": disc(45, 20, 10),
        "over": disc(45, 30, 10),
        "one pixel": cropped(rectangle(40, 60, 41, 61)),
        "line": cropped(rectangle(50, 55, 51, 75)),
        "diagonal": cropped(diagonal),
        "left square": cropped(rectangle(60, 60, 70, 70)),
        "right square": cropped(rectangle(60, 70, 70, 80)),
        "at the border": cropped(rectangle(80, 100, 90, 120)),
    }


def eleven(**changes: Any) -> AnnotatedImage:
    """Return an image of 90 x 120 with the eleven shapes, and every attribute filled."""
    masks = tuple(eleven_masks().values())
    n = len(masks)
    instances = InstanceSet(
        image_hw=ELEVEN_HW,
        masks=masks,
        categories=CELLS,
        category_ids=np.array([4, 2] * 5 + [4]),
        scores=np.array([0.5, np.nan] * 5 + [1.0]),
        handles=np.arange(3, 3 + n),
        uuids=tuple(f"uuid-{number}" for number in range(n)),
        states=(*list(InstanceState), *[InstanceState.ACCEPTED] * (n - len(InstanceState))),
        sources=("nuclei@abc", "ann") * 5 + ("",),
    )
    values: dict[str, Any] = {
        "file_name": "day 1/eleven.png",
        "instances": instances,
        "crowds": InstanceSet(
            image_hw=ELEVEN_HW, masks=(disc(80, 10, 5),), categories=CELLS, uuids=("crowd",)
        ),
        "regions": (((0.0, 0.0), (60.0, 0.0), (60.0, 90.0), (0.5, 90.0)),),
        "state": ImageState.DRAFT,
        "split": Split.VAL,
        "group": "slide 7",
        "image_id": "a string",
        "image_extra": {"date_captured": "2020-01-02"},
        "instance_extras": {"uuid-0": {"id": 17, "note": ["kept", 1, None]}},
    }
    return AnnotatedImage(**values | changes)


def pixels_for(image: AnnotatedImage, seed: int = 0) -> NDArray[np.uint8]:
    """Return grey pixels (H, W) of an image's size, other ones for each seed."""
    return np.random.default_rng(seed).integers(0, 255, image.image_hw, np.uint8)


@st.composite
def annotated_images(draw: st.DrawFn, max_instances: int = 4) -> AnnotatedImage:
    """Draw an image with instances that overlap, have holes and several parts, and a crowd."""
    table = draw(category_tables())
    image_hw = draw(sizes_hw)
    instances = draw(instance_sets(table, max_instances, image_hw))
    crowds = draw(instance_sets(table, 1, image_hw))
    return AnnotatedImage(
        file_name="made.png",
        instances=instances,
        crowds=crowds,
        state=draw(st.sampled_from(ImageState)),
        split=draw(st.none() | st.sampled_from(Split)),
    )
