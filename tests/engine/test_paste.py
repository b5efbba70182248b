"""Masks inside their boxes are torchvision's full-size masks, in a small part of the memory."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import expand_boxes, paste_masks_in_image

from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.engine import paste, paste_jit
from napari_deeppixel.engine.paste import paste_masks

IMAGE_HW = (37, 53)


@pytest.fixture(params=["torch", "compiled"], scope="module", autouse=True)
def how(request: pytest.FixtureRequest) -> Iterator[str]:
    """Paste with and without the compiled kernel."""
    with pytest.MonkeyPatch.context() as patch:
        module = paste_jit if request.param == "compiled" else None
        patch.setattr(paste, "kernels", lambda _name: module)
        yield request.param


def full(mask: CroppedMask | None, image_hw: tuple[int, int] = IMAGE_HW) -> np.ndarray:
    return np.zeros(image_hw, bool) if mask is None else mask.to_mask(image_hw)


def probabilities(seed: int, count: int, side: int = 28) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 1, 5, 5), generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")


@st.composite
def boxes_in_image(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """Draw a box as torchvision gives them: clipped to the image, of any size from nothing on."""
    height, width = IMAGE_HW
    x1, x2 = sorted(draw(st.tuples(*[st.floats(0, width, width=32)] * 2)))
    y1, y2 = sorted(draw(st.tuples(*[st.floats(0, height, width=32)] * 2)))
    return x1, y1, x2, y2


@settings(max_examples=100)
@given(
    st.lists(boxes_in_image(), min_size=1, max_size=4),
    st.integers(0, 1000),
    st.sampled_from([0.5, 0.3, 0.9, 0.0]),
)
@example([(0.0, 0.0, 53.0, 37.0)], 0, 0.5)  # the whole image
@example([(52.6, 36.6, 53.0, 37.0)], 0, 0.5)  # less than the last pixel
@example([(10.0, 10.0, 10.0, 10.0)], 0, 0.5)  # no area
@example([(0.0, 5.2, 0.3, 30.9), (52.9, 0.0, 53.0, 37.0)], 0, 0.5)  # slivers at both sides
def test_masks_are_those_that_torchvision_pastes(
    boxes: list[tuple[float, float, float, float]], seed: int, threshold: float
) -> None:
    masks = probabilities(seed, len(boxes))
    boxes_xyxy = torch.tensor(boxes, dtype=torch.float32)
    expected = paste_masks_in_image(masks, boxes_xyxy, IMAGE_HW)[:, 0].numpy() >= threshold
    pasted = paste_masks(masks, boxes_xyxy, image_hw=IMAGE_HW, threshold=threshold)
    assert len(pasted) == len(boxes)
    for mask, pixels in zip(pasted, expected, strict=True):
        if threshold > 0:
            assert np.array_equal(full(mask), pixels)
        else:
            # ours has no pixel outside the box, where torchvision's canvas of zeros reaches 0
            assert pixels.all()
            assert mask is not None


def random_boxes(count: int, largest: float, image_hw: tuple[int, int]) -> torch.Tensor:
    """Return boxes (N, 4) of all sizes, some over the border, none beside the image."""
    generator = torch.Generator().manual_seed(count)
    size = torch.rand(count, 2, generator=generator) * largest
    size_xy = torch.tensor(image_hw[::-1])
    corner = torch.rand(count, 2, generator=generator) * (size_xy + 0.4 * size) - 0.7 * size
    boxes = torch.cat([corner, corner + size], dim=1)
    grown = expand_boxes(boxes, 30 / 28).to(torch.int64)
    # beside the image, torchvision's paste fails
    return boxes[(grown[:, 2:] >= 0).all(dim=1) & (grown[:, :2] < size_xy).all(dim=1)]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
@pytest.mark.parametrize(
    ("count", "largest", "image_hw"),
    [
        (200, 70, (64, 40)),
        (40, 200, (91, 130)),
        # most reach over both borders
        (5, 3000, (91, 130)),
    ],
)
def test_not_a_pixel_differs_from_torchvisions(
    count: int, largest: float, image_hw: tuple[int, int], threshold: float
) -> None:
    boxes = random_boxes(count, largest, image_hw)
    assert len(boxes) > 0.8 * count
    noisy = torch.rand(len(boxes), 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for masks in (noisy, probabilities(0, len(boxes))):
        expected = paste_masks_in_image(masks, boxes, image_hw)[:, 0].numpy() >= threshold
        pasted = paste_masks(masks, boxes, image_hw=image_hw, threshold=threshold)
        for mask, pixels in zip(pasted, expected, strict=True):
            assert np.array_equal(full(mask, image_hw), pixels)


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="the kernel fuses multiplications and additions as torch does on these processors",
)
# the second and third are 128 and 129 wide and high, where torch goes over to another way
@pytest.mark.parametrize("box_hw", [(9.5, 14.0), (57.0, 61.0), (58.0, 61.0), (150.0, 20.0)])
def test_pixels_on_the_threshold_are_torchvisions_to_the_last_bit(
    box_hw: tuple[float, float],
) -> None:
    image_hw, (height, width) = (170, 90), box_hw
    masks = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[5.2, 8.7, 5.2 + width, 8.7 + height]])
    resized = paste_masks_in_image(masks, boxes, image_hw)[0, 0].numpy()
    values = resized[resized > 0]
    for value in values[:: len(values) // 100].tolist():
        (mask,) = paste_masks(masks, boxes, image_hw=image_hw, threshold=value)
        assert np.array_equal(full(mask, image_hw), resized >= value)


@settings(max_examples=100)
@given(
    st.tuples(st.floats(-20, 70), st.floats(-20, 60), st.floats(0.5, 60), st.floats(0.5, 60)),
    st.integers(0, 1000),
)
def test_a_box_over_the_border_is_cut_there(
    box: tuple[float, float, float, float], seed: int
) -> None:
    x, y, w, h = box
    masks, boxes_xyxy = probabilities(seed, 1), torch.tensor([[x, y, x + w, y + h]])
    (mask,) = paste_masks(masks, boxes_xyxy, image_hw=IMAGE_HW)
    # the same mask in an image that holds the whole box, cut to ours
    margin = 200
    (whole,) = paste_masks(
        masks, boxes_xyxy.double() + margin, image_hw=(IMAGE_HW[0] + 400, IMAGE_HW[1] + 400)
    )
    canvas = np.zeros((437, 453), bool) if whole is None else whole.to_mask((437, 453))
    cut = canvas[margin : margin + 37, margin : margin + 53]
    # torchvision cuts a box to integers towards zero, so one that begins before 0 moves by a pixel
    if min(x, y) > 5:
        assert np.array_equal(full(mask), cut)
    else:
        assert np.logical_xor(full(mask), cut).mean() < 0.2


def test_a_box_beside_the_image_gives_no_mask() -> None:
    masks = torch.ones(2, 1, 28, 28)
    boxes_xyxy = torch.tensor([[60.0, 5, 70, 15], [5, -30, 15, -20]])
    assert paste_masks(masks, boxes_xyxy, image_hw=IMAGE_HW) == [None, None]


def test_no_instance_gives_no_mask() -> None:
    assert paste_masks(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), image_hw=IMAGE_HW) == []


def test_where_no_pixel_reaches_the_threshold_there_is_no_mask() -> None:
    masks = torch.stack([torch.full((1, 28, 28), 0.49), torch.full((1, 28, 28), 0.51)])
    boxes_xyxy = torch.tensor([[5.0, 5, 20, 20]] * 2)
    low, high = paste_masks(masks, boxes_xyxy, image_hw=IMAGE_HW)
    assert low is None
    assert high is not None
    assert high.box_xyxy == (5, 5, 20, 20)
    assert high.area == 225


def test_one_sure_cell_is_one_pixel_where_the_box_has_its_size() -> None:
    # the padded box of 4 x 6 pixels from (10, 20) on: one for each of the padded cells, 4 x 4
    cells = torch.zeros(1, 1, 2, 2)
    cells[0, 0, 0, 1] = 1
    (mask,) = paste_masks(cells, torch.tensor([[11.0, 21, 12.5, 22.5]]), image_hw=IMAGE_HW)
    assert mask is not None
    assert mask.box_xyxy == (12, 21, 13, 22)
    assert mask.pixels.tolist() == [[True]]


def test_boxes_may_lie_in_memory_in_any_order() -> None:
    masks, boxes_xyxy = probabilities(0, 2), torch.tensor([[3.0, 4, 40, 30], [5, 6, 20, 25]])
    by_rows = paste_masks(masks, boxes_xyxy, image_hw=IMAGE_HW)
    by_columns = paste_masks(masks, boxes_xyxy.T.contiguous().T, image_hw=IMAGE_HW)
    for mask, other in zip(by_rows, by_columns, strict=True):
        assert np.array_equal(full(mask), full(other))


def test_half_precision_is_pasted_as_full() -> None:
    masks, boxes_xyxy = probabilities(0, 1).bfloat16(), torch.tensor([[3.0, 4, 40, 30]])
    (low,) = paste_masks(masks, boxes_xyxy, image_hw=IMAGE_HW)
    (full_precision,) = paste_masks(masks.float(), boxes_xyxy, image_hw=IMAGE_HW)
    assert low is not None
    assert full_precision is not None
    assert low.equals(full_precision)


MEASURE = """
import json, sys, torch
from napari_deeppixel.engine import paste

def peak_mb():
    import resource
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

kernel = None
if sys.argv[1] == "compiled":
    from napari_deeppixel.engine import paste_jit as kernel
paste.kernels = lambda _name: kernel
side, count = 8192, 100
masks = torch.ones(count, 1, 28, 28)
corners = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * (side - 400)
boxes = torch.cat([corners, corners + 400], dim=1)
paste.paste_masks(masks[:1], boxes[:1], image_hw=(500, 500))
before = peak_mb()
pasted = paste.paste_masks(masks, boxes, image_hw=(side, side))
print(json.dumps([peak_mb() - before, sum(mask.area for mask in pasted)]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
def test_a_hundred_instances_at_8192_take_less_than_100_mb_beside_themselves(how: str) -> None:
    # torchvision's own way takes 27 GB
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), how],
        capture_output=True,
        text=True,
        check=True,
    )
    grown_mb, area = json.loads(done.stdout.splitlines()[-1])
    assert area > 100 * 390**2
    # a byte a pixel
    assert grown_mb < 100 + area / 2**20
