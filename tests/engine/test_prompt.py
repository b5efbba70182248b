"""Boxes and clicks answered by the network's heads on features that are kept."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from tests.engine.networks import noise, slim_engine
from tests.fakes import ThresholdEngine

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.errors import DeviceError, ImageError, RunCancelled
from napari_deeppixel.core.instance import (
    Instance,
    InstanceSet,
    InstanceState,
    label_image_to_instances,
)
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import BoxPrompter, Engine, PredictOptions
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.planes import plane_prompter, predict_planes
from napari_deeppixel.engine.prompt import region_around
from napari_deeppixel.engine.weights import load_model

DATA = Path(__file__).parents[1] / "data"
OPTIONS = PredictOptions(max_instances=40, precision="fp32")
BOXES = [[3.5, 4.25, 30, 22], [20, 8, 51, 37], [0, 0, 56, 40]]


@pytest.fixture(scope="module")
def engine() -> MaskRCNNEngine:
    return slim_engine()


@pytest.fixture(scope="module")
def nuclei() -> MaskRCNNEngine:
    return load_model("nuclei", device="cpu")


def sample(name: str, nuclei: MaskRCNNEngine) -> tuple[np.ndarray, InstanceSet]:
    """Return the pixels (H, W, C) of a sample image and its true instances."""
    with resources.as_file(resources.files("napari_deeppixel") / "samples") as folder:
        pixels = np.asarray(iio.imread(folder / f"{name}.png"))
    truth = iio.imread(DATA / f"{name}_labels.png")
    plane = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
    return plane, label_image_to_instances(truth, categories=nuclei.spec.categories)


def known(found: list[Instance | None]) -> list[Instance]:
    assert all(instance is not None for instance in found)
    return [instance for instance in found if instance]


def assert_same(left: list[Instance | None], right: list[Instance | None]) -> None:
    """Check that two prompts gave the same; each makes its own uuids."""
    for a, b in zip(left, right, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.mask.equals(b.mask)
            assert (a.score, a.category_id) == (b.score, b.category_id)
            assert a.predicted_box_xyxy == b.predicted_box_xyxy


def cut(mask: CroppedMask, box_xyxy: Any, image_hw: tuple[int, int]) -> CroppedMask | None:
    """Return the pixels of a mask that a box touches, the slow and plain way."""
    pixels = mask.to_mask(image_hw)
    x1, y1, x2, y2 = box_xyxy
    rows, columns = np.mgrid[: image_hw[0], : image_hw[1]]
    touched = (rows + 1 > y1) & (rows < y2) & (columns + 1 > x1) & (columns < x2)
    return CroppedMask.from_mask(pixels & touched)


@contextmanager
def counted(module: torch.nn.Module) -> Iterator[list[int]]:
    calls: list[int] = []
    hook = module.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        hook.remove()


@pytest.mark.parametrize("limits", [{}, {"min_size": 120, "max_size": 200}])
def test_the_box_of_a_detection_gives_its_mask_pixel_for_pixel(limits: dict[str, int]) -> None:
    engine = slim_engine(**limits)
    pixels = noise(60, 81)
    (prediction,) = engine.predict([pixels], OPTIONS)
    candidates = prediction.candidates
    found = engine.prompter(pixels, OPTIONS).instances_in(candidates.predicted_boxes_xyxy)
    same = 0
    for detection, instance in zip(candidates, found, strict=True):
        # what the box head says of the refined box may be another category than of the proposal
        if instance is None or instance.category_id != detection.category_id:
            continue
        expected = cut(detection.mask, detection.predicted_box_xyxy, (60, 81))
        assert expected is not None
        assert instance.mask.equals(expected)
        assert instance.predicted_box_xyxy == detection.predicted_box_xyxy
        assert instance.edge_uncertainty == pytest.approx(detection.edge_uncertainty, abs=1e-5)
        same += 1
    assert same > 20


@pytest.mark.parametrize("name", ["tissue", "histology"])
def test_true_boxes_give_better_masks_than_detections_do(nuclei: MaskRCNNEngine, name: str) -> None:
    pixels, truth = sample(name, nuclei)
    (prediction,) = nuclei.predict([pixels], PredictOptions())
    shown = prediction.at(score=nuclei.spec.score)
    found = nuclei.prompter(pixels, PredictOptions()).instances_in(truth.boxes_xyxy)
    detected = np.array([max(t.mask.iou(mask) for mask in shown.masks) for t in truth])
    prompted = np.array(
        [t.mask.iou(f.mask) if f else 0.0 for t, f in zip(truth, found, strict=True)]
    )
    assert prompted.mean() > 0.75
    is_detected = detected >= 0.5
    assert is_detected.sum() > 40
    assert prompted[is_detected].mean() > detected[is_detected].mean()


def test_a_click_on_a_missed_nucleus_gives_a_mask_that_holds_the_point(
    nuclei: MaskRCNNEngine,
) -> None:
    pixels, truth = sample("histology", nuclei)
    (prediction,) = nuclei.predict([pixels], PredictOptions())
    shown = prediction.at(score=nuclei.spec.score)
    prompter = nuclei.prompter(pixels, PredictOptions())
    missed = found = 0
    for nucleus in truth:
        if any(nucleus.mask.iou(mask) > 0.1 for mask in shown.masks):
            continue
        missed += 1
        depth = distance_transform_edt(np.pad(nucleus.mask.pixels, 1))
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        y, x = nucleus.mask.y + int(row) - 1, nucleus.mask.x + int(column) - 1
        instance = prompter.instance_at((x + 0.5, y + 0.5), size_px=nucleus.area**0.5)
        if instance is not None:
            assert instance.mask.to_mask(truth.image_hw)[y, x]
            assert instance.score >= 0.05
            found += nucleus.mask.iou(instance.mask) > 0.3
    assert missed > 3
    assert found > missed / 2


@pytest.mark.parametrize("size_px", [None, 20.0])
def test_a_click_on_a_detected_nucleus_gives_it_and_on_nothing_gives_none(
    nuclei: MaskRCNNEngine, size_px: float | None
) -> None:
    pixels, truth = sample("fluorescence", nuclei)
    prompter = nuclei.prompter(pixels, PredictOptions())
    ious = []
    for nucleus in list(truth)[:12]:
        x1, y1, x2, y2 = nucleus.box_xyxy
        instance = prompter.instance_at(((x1 + x2) / 2, (y1 + y2) / 2), size_px=size_px)
        ious.append(nucleus.mask.iou(instance.mask) if instance else 0.0)
    assert np.mean(ious) > 0.75
    far = distance_transform_edt(truth.label_image() == 0)
    y, x = np.unravel_index(int(far.argmax()), far.shape)
    assert prompter.instance_at((x + 0.5, y + 0.5), size_px=size_px) is None


def test_many_prompts_run_the_backbone_once(engine: MaskRCNNEngine) -> None:
    with counted(engine.model.backbone) as runs, counted(engine.model.rpn) as proposals:
        prompter = engine.prompter(noise(40, 56), OPTIONS)
        for _ in range(3):
            assert len(known(prompter.instances_in(BOXES))) == 3
            prompter.instance_at((20, 20))
    assert len(runs) == 1
    assert proposals == []


def test_an_instance_says_where_it_comes_from(engine: MaskRCNNEngine) -> None:
    found = known(engine.prompter(noise(40, 56), OPTIONS).instances_in(BOXES))
    for instance, box in zip(found, BOXES, strict=True):
        assert instance.source == engine.source == "random@0123456789ab"
        assert instance.state is InstanceState.UNREVIEWED
        assert list(instance.predicted_box_xyxy) == box
        assert instance.category_id in (1, 2)
        assert 0 < instance.score <= 1
        assert 0 < instance.edge_uncertainty < 1
    assert len({instance.uuid for instance in found}) == 3
    assert (
        len(
            InstanceSet.from_instances(
                [replace(i, handle=n) for n, i in enumerate(found, 1)],
                image_hw=(40, 56),
                categories=engine.spec.categories,
            )
        )
        == 3
    )


def test_a_mask_stays_inside_its_box_rounded_outwards(engine: MaskRCNNEngine) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform([0, 0], [40, 24], (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(2, 16, (40, 2))], axis=1)
    found = engine.prompter(noise(40, 56), replace(OPTIONS, mask_threshold=0.1)).instances_in(boxes)
    tight = np.array([instance.box_xyxy for instance in found if instance])
    given = np.array([box for instance, box in zip(found, boxes, strict=True) if instance])
    assert len(tight) > 30
    assert (tight[:, :2] >= np.floor(given[:, :2])).all()
    assert (tight[:, 2:] <= np.ceil(given[:, 2:])).all()
    # and fills some of them
    assert (tight[:, 2:] == np.ceil(given[:, 2:])).any()


def test_boxes_without_a_pixel_give_none_in_their_place(engine: MaskRCNNEngine) -> None:
    nan = float("nan")
    hopeless = [
        [-20, 5, -2, 9],
        [56, 0, 70, 40],
        [5, 5, 5.9, 20],
        [30, 20, 10, 5],
        [nan, 0, 9, 9],
        [55.5, 10, 80, 20],
    ]
    boxes = [hopeless[0], BOXES[0], *hopeless[1:], BOXES[1]]
    prompter = engine.prompter(noise(40, 56), OPTIONS)
    found = prompter.instances_in(boxes)
    assert [instance is None for instance in found] == [True, False, *[True] * 5, False]
    assert_same([found[1], found[7]], prompter.instances_in(BOXES[:2]))
    assert prompter.instances_in(hopeless) == [None] * 6


def test_a_box_without_a_likely_pixel_holds_nothing(engine: MaskRCNNEngine) -> None:
    prompter = engine.prompter(noise(40, 56), replace(OPTIONS, mask_threshold=1.0))
    assert prompter.instances_in(BOXES) == [None] * 3
    assert prompter.instance_at((20, 20)) is None


def test_no_box_gives_no_instance(engine: MaskRCNNEngine) -> None:
    prompter = engine.prompter(noise(40, 56), OPTIONS)
    assert prompter.instances_in([]) == []
    assert prompter.instances_in(np.zeros((0, 4))) == []


def test_a_box_over_the_border_is_cut_to_the_plane(engine: MaskRCNNEngine) -> None:
    prompter = engine.prompter(noise(40, 56), OPTIONS)
    over = prompter.instances_in([[-30, 10.5, 25, 99]])
    assert_same(over, prompter.instances_in([[0, 10.5, 25, 40]]))
    assert over[0] is not None
    assert over[0].predicted_box_xyxy == (0, 10.5, 25, 40)


@pytest.mark.parametrize("point", [(-0.1, 5), (56, 5), (5, 40), (float("nan"), 5)])
def test_a_click_outside_the_plane_gives_none(
    engine: MaskRCNNEngine, point: tuple[float, float]
) -> None:
    assert engine.prompter(noise(40, 56), OPTIONS).instance_at(point) is None


@pytest.mark.parametrize("limits", [{}, {"min_size": 100, "max_size": 120}])
def test_the_mask_of_a_click_holds_the_point_wherever_it_is(limits: dict[str, int]) -> None:
    engine = slim_engine(**limits)
    prompter = engine.prompter(noise(31, 90), OPTIONS)
    found = 0
    for x in range(0, 90, 11):
        for y in (0, 13, 30):
            instance = prompter.instance_at((x + 0.25, y + 0.75))
            if instance is not None:
                assert instance.mask.to_mask((31, 90))[y, x]
                x1, y1, x2, y2 = instance.predicted_box_xyxy
                assert 0 <= x1 <= x + 0.25 <= x2 <= 90
                assert 0 <= y1 <= y + 0.75 <= y2 <= 31
                found += 1
    assert found > 5


@pytest.mark.parametrize("image_hw", [(1, 1), (1, 300), (200, 3)])
def test_a_plane_of_any_size_can_be_asked(
    engine: MaskRCNNEngine, image_hw: tuple[int, int]
) -> None:
    options = replace(OPTIONS, normalization=Normalization(mode="range", low=0, high=255))
    prompter = engine.prompter(noise(*image_hw), options)
    assert prompter.image_hw == image_hw
    (instance,) = prompter.instances_in([[0, 0, image_hw[1], image_hw[0]]])
    if instance is not None:
        assert instance.mask.to_mask(image_hw).any()
    prompter.instance_at((0.5, 0.5))


def test_uint16_grey_gives_the_same_as_uint8_and_as_rgb_of_the_same_grey(
    engine: MaskRCNNEngine,
) -> None:
    grey = noise(40, 56, 1)
    found = engine.prompter(grey, OPTIONS).instances_in(BOXES)
    known(found)
    words = grey.astype(np.uint16) * 128
    assert_same(found, engine.prompter(words, OPTIONS).instances_in(BOXES))
    rgb = np.repeat(grey, 3, axis=2)
    fixed = replace(OPTIONS, normalization=Normalization(mode="range", low=0, high=255))
    one, three = (engine.prompter(plane, fixed).instances_in(BOXES) for plane in (grey, rgb))
    assert_same(one, three)
    other = engine.prompter(noise(40, 56, 3, seed=4), OPTIONS).instances_in(BOXES)
    assert [i and i.score for i in other] != [i and i.score for i in found]


def test_a_plane_without_contrast_holds_no_object(engine: MaskRCNNEngine) -> None:
    with counted(engine.model.backbone) as runs:
        prompter = engine.prompter(np.full((40, 56, 1), 7, np.uint8), OPTIONS)
    assert runs == []
    assert prompter.instances_in(BOXES) == [None] * 3
    assert prompter.instance_at((20, 20)) is None
    assert prompter.memory_bytes == 0
    assert prompter.image_hw == (40, 56)


def test_memory_is_that_of_the_feature_maps(engine: MaskRCNNEngine) -> None:
    # 64 x 64 after padding: strides 4, 8, 16 and 32 with 16 float32 channels
    prompter = engine.prompter(noise(40, 56), OPTIONS)
    assert prompter.memory_bytes == (16**2 + 8**2 + 4**2 + 2**2) * 16 * 4


def test_a_class_that_no_category_stands_for_is_never_suggested(engine: MaskRCNNEngine) -> None:
    gappy = CategoryTable(
        categories=(Category(id=30, name="debris", color="#ff0000"),), class_indices=(2,)
    )
    other = MaskRCNNEngine(replace(engine.spec, categories=gappy), engine.model)
    boxes = engine.predict([noise(40, 56)], OPTIONS)[0].candidates.predicted_boxes_xyxy
    both = engine.prompter(noise(40, 56), OPTIONS).instances_in(boxes)
    assert {instance.category_id for instance in both if instance} == {1, 2}
    found = other.prompter(noise(40, 56), OPTIONS).instances_in(boxes)
    assert {instance.category_id for instance in found if instance} == {30}
    for first, second in zip(both, found, strict=True):
        if first is not None and first.category_id == 2:
            assert second is not None
            assert second.mask.equals(first.mask)
            assert second.score == first.score


def test_a_prompter_keeps_its_precision_whatever_runs_in_between(engine: MaskRCNNEngine) -> None:
    pixels = noise(40, 56)
    prompter = engine.prompter(pixels, OPTIONS)
    before = prompter.instances_in(BOXES)
    low = replace(OPTIONS, precision="bf16")
    engine.predict([pixels], low)
    rounded = engine.prompter(pixels, low).instances_in(BOXES)
    assert_same(before, prompter.instances_in(BOXES))
    scores = [[instance.score for instance in known(found)] for found in (before, rounded)]
    assert scores[0] != scores[1]
    np.testing.assert_allclose(scores[0], scores[1], atol=0.1)


def test_threads_prompt_and_predict_at_once(engine: MaskRCNNEngine) -> None:
    planes = [noise(40, 56, seed=seed) for seed in range(3)]
    prompters = [engine.prompter(plane, OPTIONS) for plane in planes]
    expected = [prompter.instances_in(BOXES) for prompter in prompters]
    found: dict[int, list[Instance | None]] = {}

    def work(number: int) -> None:
        engine.predict([planes[number]], replace(OPTIONS, precision="bf16"))
        found[number] = prompters[number].instances_in(BOXES)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, instances in enumerate(expected):
        assert_same(instances, found[number])


def test_progress_grows_and_a_cancel_in_the_backbone_stops_it(engine: MaskRCNNEngine) -> None:
    steps: list[Progress] = []
    engine.prompter(noise(40, 56), OPTIONS, on_progress=steps.append)
    fractions = [step.fraction for step in steps]
    assert len(fractions) > 20
    assert fractions == sorted(fractions)
    assert fractions[-1] == 0.99

    cancel, seen = CancelToken(), []

    def stop_after_five(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 5:
            cancel.cancel()

    with pytest.raises(RunCancelled):
        engine.prompter(noise(40, 56), OPTIONS, cancel=cancel, on_progress=stop_after_five)
    assert len(seen) == 5
    assert not any(module._forward_pre_hooks for module in engine.model.modules())
    known(engine.prompter(noise(40, 56), OPTIONS).instances_in(BOXES))


def test_a_plane_too_large_for_the_memory_says_what_to_do(
    engine: MaskRCNNEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_images: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.model.backbone, "forward", fail)
    with pytest.raises(DeviceError, match=r"\(40, 56\) pixels does not fit .* run on the view"):
        engine.prompter(noise(40, 56), OPTIONS)


def test_a_channel_that_does_not_exist_is_an_image_error(engine: MaskRCNNEngine) -> None:
    with pytest.raises(ImageError, match="channel 3 does not exist"):
        engine.prompter(noise(9, 9), replace(OPTIONS, channels=(3,)))


REGION = (24, 8, 88, 56)


def test_a_region_is_asked_in_the_coordinates_of_the_whole_plane(engine: MaskRCNNEngine) -> None:
    pixels = noise(70, 110)
    options = replace(OPTIONS, normalization=Normalization(mode="range", low=0, high=255))
    part = engine.prompter(pixels[8:56, 24:88], options)
    whole = plane_prompter(pixels, engine, options, region_xyxy=REGION)
    assert whole.image_hw == (70, 110)
    assert whole.memory_bytes == part.memory_bytes
    inside = known(part.instances_in([[5, 6, 40, 30]]))[0]
    moved, outside = whole.instances_in([[29, 14, 64, 38], [0, 0, 20, 8]])
    assert moved is not None
    assert outside is None
    assert moved.mask.equals(inside.mask.moved(dy=8, dx=24))
    assert moved.predicted_box_xyxy == (29, 14, 64, 38)
    assert moved.score == inside.score
    clicks = [(x + 0.5, y + 0.5) for x in (12, 30, 50) for y in (8, 24, 40)]
    found = [part.instance_at(point) for point in clicks]
    assert any(found)
    assert_same(
        [f and replace(f, mask=f.mask.moved(dy=8, dx=24), predicted_box_xyxy=()) for f in found],
        [
            f and replace(f, predicted_box_xyxy=())
            for f in (whole.instance_at((x + 24, y + 8)) for x, y in clicks)
        ],
    )
    assert whole.instance_at((20, 5)) is None


def test_a_region_has_the_contrast_of_the_whole_plane(engine: MaskRCNNEngine) -> None:
    pixels = noise(70, 110, 1)
    low, high = engine.spec.normalization.limits(pixels)
    fixed = replace(engine.spec.normalization, mode="range", low=low, high=high)
    expected = engine.prompter(pixels[8:56, 24:88], replace(OPTIONS, normalization=fixed))
    asked = plane_prompter(pixels[..., 0], engine, OPTIONS, region_xyxy=REGION)
    (have,) = known(asked.instances_in([[29, 14, 64, 38]]))
    (want,) = known(expected.instances_in([[5, 6, 40, 30]]))
    assert have.score == want.score
    own = engine.prompter(pixels[8:56, 24:88], OPTIONS)
    assert known(own.instances_in([[5, 6, 40, 30]]))[0].score != want.score


def test_a_window_round_a_nucleus_gives_nearly_the_mask_of_the_whole_plane(
    nuclei: MaskRCNNEngine,
) -> None:
    pixels, truth = sample("fluorescence", nuclei)
    whole = plane_prompter(pixels[..., 0], nuclei, PredictOptions())
    for box in truth.boxes_xyxy[:5]:
        region = region_around(box, truth.image_hw, margin=48)
        part = plane_prompter(pixels[..., 0], nuclei, PredictOptions(), region_xyxy=region)
        (near,), (far,) = known(part.instances_in([box])), known(whole.instances_in([box]))
        assert near.mask.iou(far.mask) > 0.9


def test_the_plane_of_a_stack_is_read_alone() -> None:
    stack = np.zeros((2, 6, 9), np.uint8)
    stack[1, 2:4, 3:6] = 255
    prompter = plane_prompter(stack, ThresholdEngine(), PredictOptions(), index=(1,))
    (found,) = known(prompter.instances_in([[0, 0, 9, 6]]))
    assert found.box_xyxy == (3, 2, 6, 4)
    with pytest.raises(ImageError, match=r"no plane \(2,\)"):
        plane_prompter(stack, ThresholdEngine(), PredictOptions(), index=(2,))
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(RunCancelled):
        plane_prompter(stack, ThresholdEngine(), PredictOptions(), index=(1,), cancel=cancel)


@pytest.mark.parametrize(
    ("box", "margin", "region"),
    [
        ((10.2, 20, 15, 24.5), 0, (10, 20, 15, 25)),
        ((10, 20, 15, 25), 3.5, (6, 16, 19, 29)),
        ((1, 38, 5, 39), 10, (0, 28, 15, 40)),
        ((7.5, 8.5, 7.5, 8.5), 0, (7, 8, 8, 9)),
        ((200, -90, 300, -80), 5, (55, 0, 56, 1)),
    ],
)
def test_a_window_is_grown_and_cut_to_the_plane(
    box: tuple[float, ...], margin: float, region: tuple[int, ...]
) -> None:
    assert region_around(box, (40, 56), margin=margin) == region


class TestThresholdPrompter:
    """The stand-in answers as a network's prompter does, in pixels that a person can see."""

    def prompter(self, make: Callable[[], ThresholdEngine] = ThresholdEngine) -> BoxPrompter:
        pixels = np.zeros((6, 12, 1), np.uint8)
        pixels[1:3, 1:5] = 255
        pixels[3, 5] = 153
        pixels[4:6, 9:12] = 204
        engine: Engine = make()
        return engine.prompter(pixels, PredictOptions())

    def test_a_box_gives_its_bright_pixels(self) -> None:
        found = self.prompter().instances_in(
            np.array([[0, 0, 3.5, 6], [6, 0, 8, 6], [20, 0, 30, 6], [9, 4, 9.5, 6], [8, -3, 99, 9]])
        )
        first, dark, outside, narrow, over = found
        assert dark is outside is narrow is None
        assert first is not None
        assert first.box_xyxy == (1, 1, 4, 3)
        assert first.predicted_box_xyxy == (0, 0, 3.5, 6)
        assert first.score == 1
        assert first.source == "threshold@0123456789ab"
        assert over is not None
        assert over.predicted_box_xyxy == (8, 0, 12, 6)
        assert over.score == pytest.approx(0.8)

    def test_a_click_gives_the_group_under_it(self) -> None:
        prompter = self.prompter()
        found = prompter.instance_at((2.9, 1.1))
        assert found is not None
        assert found.area == 9
        assert found.box_xyxy == (1, 1, 6, 4)
        assert prompter.instance_at((0.5, 0.5)) is None
        assert prompter.instance_at((12, 0)) is None

    def test_it_can_be_cancelled_and_counts_its_calls(self) -> None:
        engine, cancel = ThresholdEngine(), CancelToken()
        cancel.cancel()
        with pytest.raises(RunCancelled):
            engine.prompter(np.zeros((2, 2, 1)), PredictOptions(), cancel=cancel)
        assert len(engine.prompter_calls) == 1
        assert engine.calls == []


def test_the_masks_of_a_region_are_those_of_a_prediction_on_it(engine: MaskRCNNEngine) -> None:
    pixels = noise(70, 110)
    ((_, prediction),) = predict_planes(pixels, engine, OPTIONS, region_xyxy=REGION)
    candidates = prediction.candidates
    prompter = plane_prompter(pixels, engine, OPTIONS, region_xyxy=REGION)
    found = prompter.instances_in(candidates.predicted_boxes_xyxy)
    same = 0
    for detection, instance in zip(candidates, found, strict=True):
        if instance is not None and instance.category_id == detection.category_id:
            expected = cut(detection.mask, detection.predicted_box_xyxy, (70, 110))
            assert expected is not None
            assert instance.mask.equals(expected)
            same += 1
    assert same > 20
