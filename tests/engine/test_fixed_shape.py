"""The forward with fixed shapes finds what torchvision's own does, and never waits on the way."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from tests.engine.networks import as_tensor, noise, sharpen, slim_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection._utils import BoxCoder

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.device_input import stage
from napari_deeppixel.engine.fixed_shape import (
    Answer,
    FixedShapeForward,
    Settings,
    decode_boxes,
    mask_slots,
    settings_of,
)
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.engine.weights import load_model

CPU = torch.device("cpu")
CELLS = CategoryTable.from_names("cell", "debris")
FULL_RANGE = Normalization(mode="range", low=0, high=255)
PLANES = [noise(90, 120, seed=seed) for seed in range(3)]

# they ask the device for values, or for the size of their result
WAITING = {
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::masked_select",
    "aten::nonzero",
    "aten::equal",
    "aten::unique_dim",
    "aten::_unique2",
    "aten::repeat_interleave",
    "torchvision::nms",
}
# a tensor from numbers of the host: its copy to the device waits
FROM_HOST = {"aten::lift_fresh"}


class NoWaiting(TorchDispatchMode):
    """Counts the operations that run, and fails at one that needs the host."""

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device_type = device_type
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name
        self.counts[name] += 1
        if name in WAITING | FROM_HOST or (name == "aten::index" and has_bool(args[1])):
            raise AssertionError(f"{name} waits for the device")
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves((args, result)):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != self.device_type:
                raise AssertionError(f"{name} has a tensor on the {tensor.device}")
        return result


@torch.no_grad()
@pytest.mark.parametrize(
    "wait",
    [
        lambda values: values.max().item(),
        lambda values: bool(values.any()),
        lambda values: values[values > 1],
        lambda values: torch.where(values > 1)[0],
        lambda values: values[[0, 2]],
        lambda values: values + torch.tensor([1.0, 2.0, 3.0]),
        lambda values: values.to("meta"),
    ],
)
def test_the_watch_of_these_tests_sees_what_waits(wait: Callable[[torch.Tensor], Any]) -> None:
    values = torch.arange(3.0)
    with NoWaiting("cpu"), pytest.raises(AssertionError, match=r"waits|has a tensor on"):
        wait(values)


def has_bool(indices: Sequence[Any]) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in indices)


def resnet50(architecture: Any) -> Any:
    spec = ModelSpec(
        name="m",
        architecture=architecture,
        categories=CategoryTable.from_names("a", "b", "c"),
        min_size=64,
        max_size=96,
        rpn_post_nms_top_n=50,
    )
    torch.manual_seed(0)
    return sharpen(build_model(spec), as_tensor(PLANES[0]))


def slim(**limits: Any) -> Any:
    """Return a slim network with two categories and narrow layers, to be quick."""
    return slim_model(
        slim_spec("m", CELLS, **{"rpn_post_nms_top_n": 100, "fpn_channels": 16} | limits)
    )


def as_batch(
    planes: Sequence[np.ndarray], normalization: Normalization = FULL_RANGE
) -> list[torch.Tensor]:
    staged = zip(*[stage(plane, normalization) for plane in planes], strict=True)
    return [torch.from_numpy(np.stack(arrays)) for arrays in staged]


def torchvisions(
    model: Any, planes: Sequence[np.ndarray], normalization: Normalization = FULL_RANGE
) -> list[dict[str, torch.Tensor]]:
    inputs = [
        torch.from_numpy(normalization.apply(plane)).permute(2, 0, 1).expand(3, -1, -1)
        for plane in planes
    ]
    with torch.inference_mode():
        expected: list[dict[str, torch.Tensor]] = model(inputs)
    return expected


@torch.inference_mode()
def found_by(
    model: Any,
    planes: Sequence[np.ndarray],
    normalization: Normalization = FULL_RANGE,
    **changes: Any,
) -> Answer:
    settings = replace(settings_of(model, planes[0].shape[:2]), **changes)
    forward = FixedShapeForward(model, settings, device=CPU)
    answer, _ = forward(*as_batch(planes, normalization), slots=settings.max_detections)
    return answer


def assert_same(answer: Answer, expected: list[dict[str, torch.Tensor]]) -> None:
    assert answer.is_exact.tolist() == [True] * len(expected)
    for image, want in enumerate(expected):
        count = len(want["scores"])
        is_valid = answer.is_valid[image].tolist()
        assert is_valid == [True] * count + [False] * (len(is_valid) - count)
        assert answer.class_indices[image, :count].tolist() == want["labels"].tolist()
        for have, wanted, tolerance in (
            (answer.boxes, want["boxes"], 1e-3),
            (answer.scores, want["scores"], 1e-5),
            (answer.masks, want["masks"][:, 0], 1e-4),
        ):
            assert have[image, :count].shape == wanted.shape
            assert torch.allclose(have[image, :count], wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("architecture", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_a_resnet50_finds_the_same(architecture: str) -> None:
    model = resnet50(architecture)
    expected = torchvisions(model, PLANES[:2])
    assert min(len(want["scores"]) for want in expected) > 20
    assert_same(found_by(model, PLANES[:2]), expected)


@pytest.mark.parametrize("zoom", [1.0, 0.7, 1.5])
def test_a_slim_network_finds_the_same_in_images_that_are_magnified(zoom: float) -> None:
    model = slim()
    model.transform.set_zoom(zoom)
    expected = torchvisions(model, PLANES)
    assert len({len(want["scores"]) for want in expected} - {100}) > 0
    assert_same(found_by(model, PLANES), expected)


def test_nuclei_are_the_same_in_real_images() -> None:
    engine = load_model("nuclei", device="cpu")
    engine.model.roi_heads.score_thresh = 0.05
    engine.model.roi_heads.detections_per_img = 300
    normalization = engine.spec.normalization
    with resources.as_file(resources.files("napari_deeppixel") / "samples") as folder:
        colour = iio.imread(folder / "histology.png")
        grey = iio.imread(folder / "fluorescence.png")[..., np.newaxis]
    for planes in (
        [colour[:192, :160], colour[64:, 160:]],
        [grey[:256, :256].astype(np.uint16) * 200, grey[200:456, 300:556].astype(np.uint16) * 7],
    ):
        expected = torchvisions(engine.model, planes, normalization)
        assert min(len(want["scores"]) for want in expected) > 5
        assert_same(found_by(engine.model, planes, normalization), expected)


def test_images_without_objects_have_no_valid_slot() -> None:
    model = slim()
    model.roi_heads.score_thresh = 0.99999
    expected = torchvisions(model, PLANES)
    assert [len(want["scores"]) for want in expected] == [0, 0, 0]
    answer = found_by(model, PLANES)
    assert not answer.is_valid.any()
    assert answer.is_exact.all()


def test_a_thousand_objects_are_the_same() -> None:
    model = slim(rpn_post_nms_top_n=2000, box_nms=0.9)
    model.rpn.nms_thresh = 0.9
    model.roi_heads.detections_per_img = 1000
    planes = [noise(128, 160)]
    expected = torchvisions(model, planes)
    assert [len(want["scores"]) for want in expected] == [1000]
    assert_same(found_by(model, planes, max_candidates=4000), expected)


def test_the_limits_set_on_a_network_are_those_that_act() -> None:
    model = slim(box_nms=0.2)
    model.rpn.nms_thresh, model.rpn.score_thresh = 0.3, 0.4
    model.rpn._pre_nms_top_n["testing"], model.rpn._post_nms_top_n["testing"] = 90, 40
    model.roi_heads.detections_per_img, model.roi_heads.score_thresh = 7, 0.3
    settings = settings_of(model, (90, 120))
    assert settings == Settings(
        image_hw=(90, 120),
        input_hw=(90, 120),
        padded_hw=(96, 128),
        pre_nms_top_n=90,
        post_nms_top_n=40,
        rpn_nms=0.3,
        rpn_score=0.4,
        rpn_smallest=1e-3,
        score=0.3,
        box_nms=0.2,
        max_detections=7,
    )
    assert_same(found_by(model, PLANES), torchvisions(model, PLANES))


def test_more_candidates_than_there_is_room_for_are_told() -> None:
    model = slim()
    assert found_by(model, PLANES[:1]).is_exact.tolist() == [True]
    assert found_by(model, PLANES[:1], max_candidates=20).is_exact.tolist() == [False]


@pytest.mark.parametrize(("rpn_nms", "box_nms"), [(0.3, 1.0), (1.0, 0.3)])
def test_overlaps_that_are_not_settled_are_told(rpn_nms: float, box_nms: float) -> None:
    model = slim(box_nms=box_nms)
    model.rpn.nms_thresh = rpn_nms
    assert found_by(model, PLANES[:1], nms_iterations=1).is_exact.tolist() == [False]
    answer = found_by(model, PLANES[:1], nms_iterations=60)
    assert_same(answer, torchvisions(model, PLANES[:1]))


def test_places_that_no_proposal_takes_hold_no_object() -> None:
    model = slim(rpn_post_nms_top_n=500, box_nms=1.0)
    model.rpn.nms_thresh = 0.05
    model.roi_heads.detections_per_img = 1000
    expected = torchvisions(model, PLANES)
    # one detection for each proposal and category at most
    assert max(len(want["scores"]) for want in expected) < 500
    assert_same(found_by(model, PLANES, nms_iterations=60), expected)


def test_boxes_without_a_side_are_no_objects() -> None:
    model = slim()
    with torch.no_grad():
        # the logarithm of the width of the first category
        model.roi_heads.box_predictor.bbox_pred.bias[4 + 2] = -100
    expected = torchvisions(model, PLANES)
    assert {category for want in expected for category in want["labels"].tolist()} == {2}
    assert_same(found_by(model, PLANES), expected)


def test_boxes_are_moved_and_scaled_as_by_torchvision() -> None:
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    torch.manual_seed(0)
    low = torch.rand(200, 2) * 100
    boxes = torch.cat([low, low + torch.rand(200, 2) * 50], dim=1)
    shifts = torch.randn(200, 4) * 20
    expected = coder.decode_single(shifts, boxes)
    found = decode_boxes(shifts / torch.tensor(coder.weights), boxes, largest=coder.bbox_xform_clip)
    assert torch.equal(found, expected)
    # some were too large to be taken as they are
    assert (shifts[:, 2:] / 5 > coder.bbox_xform_clip).any()


@torch.inference_mode()
def test_masks_that_were_left_out_are_computed_from_the_features() -> None:
    model = slim()
    forward = FixedShapeForward(model, settings_of(model, (90, 120)), device=CPU)
    few, levels = forward(*as_batch(PLANES), slots=8)
    assert few.masks.shape == (3, 8, 28, 28)
    masks = forward.masks_of(levels, few.input_boxes[:, :50], few.class_indices[:, :50])
    whole = found_by(model, PLANES).masks[:, :50]
    assert torch.allclose(masks, whole, rtol=0, atol=1e-4)
    assert torch.allclose(few.masks, whole[:, :8], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("count", "limit", "slots"),
    [(0, 100, 32), (32, 100, 32), (33, 100, 64), (65, 100, 100), (5, 7, 7), (900, 1000, 1000)],
)
def test_masks_have_slots_of_few_sizes(count: int, limit: int, slots: int) -> None:
    assert mask_slots(count, limit) == slots


# not in inference mode, where compound operations hide those they are made of
@torch.no_grad()
def test_nothing_waits_between_pixels_and_answer() -> None:
    model = slim()
    forward = FixedShapeForward(model, settings_of(model, (90, 120)), device=CPU)
    batch = as_batch(PLANES[:2])
    with NoWaiting("cpu") as seen:
        forward(*batch, slots=32)
    assert seen.counts["torchvision::roi_align"] > 0


def test_nothing_crosses_from_the_host_to_a_cuda_device() -> None:
    # no GPU is needed: fake tensors have a device and a shape, but no values
    model = slim()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        move_to_fake_cuda(model)
        forward = FixedShapeForward(
            model, settings_of(model, (90, 120)), device=torch.device("cuda")
        )
        pixels = torch.empty((2, 90, 120, 3), dtype=torch.uint16, device="cuda")
        scaling = torch.empty((2, 4), device="cuda")
        with NoWaiting("cuda") as seen:
            answer, _ = forward(pixels, scaling, slots=32)
    assert answer.boxes.device.type == "cuda"
    assert answer.masks.shape == (2, 32, 28, 28)
    assert seen.counts["torchvision::roi_align"] == 2 * 3


def move_to_fake_cuda(model: Any) -> None:
    """Replace weights by fake ones: `Module.to` cannot, as they would change their class."""
    for module in model.modules():
        for kind in (module._parameters, module._buffers):
            for name, tensor in kind.items():
                if tensor is not None:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
                    is_weight = kind is module._parameters
                    kind[name] = (
                        torch.nn.Parameter(empty, requires_grad=False) if is_weight else empty
                    )
    anchors = model.rpn.anchor_generator
    anchors.cell_anchors = [
        torch.empty(cells.shape, device="cuda") for cells in anchors.cell_anchors
    ]
