import numpy as np
import pytest
from benchmarks.side_by_side import (
    FAST,
    REFERENCE,
    TORCHVISION,
    Case,
    Contestants,
    agreement,
    median_seconds,
)
from tests.engine.networks import noise

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask


def instances(boxes: list[list[float]], scores: list[float], *, more: int = 0) -> InstanceSet:
    """Return instances of two categories in turns, whose masks have 10 pixels, and some more."""
    return InstanceSet(
        image_hw=(40, 60),
        masks=tuple(CroppedMask(pixels=np.ones((2, 5 + more), bool), y=3, x=4) for _ in boxes),
        categories=CategoryTable.from_names("cell", "debris"),
        category_ids=np.arange(len(boxes)) % 2 + 1,
        scores=np.array(scores),
        predicted_boxes_xyxy=np.array(boxes),
    )


def test_the_differences_are_those_of_the_same_instance_whatever_the_order() -> None:
    left, right = [0.0, 0, 10, 10], [20.0, 0, 30, 20]
    moved = [20.0, 0, 30, 20.25]
    want = instances([left, right, left], [0.9, 0.8, 0.7])
    have = instances([left, moved, left], [0.7, 0.75, 0.9], more=1).select(np.array([2, 1, 0]))
    alike = agreement([want], [have])
    assert (alike.expected, alike.found, alike.same) == (3, 3, 3)
    assert alike.box_px == 0.25
    # 2 pixels beside each mask of 10
    assert alike.mask_share == pytest.approx(0.2)


def test_an_instance_of_another_category_or_place_is_not_the_same() -> None:
    box, other = [0.0, 0, 10, 10], [0.0, 0, 10, 8]
    want = instances([box, box], [0.9, 0.8])
    assert agreement([want], [want.select(np.array([0]))]).same == 1
    assert agreement([want], [instances([box, other], [0.9, 0.8])]).same == 1
    assert agreement([want.select(np.array([0]))], [want.select(np.array([1]))]).same == 0


def test_every_variant_finds_what_torchvision_finds() -> None:
    case = Case(name="noise", model="nuclei", planes=[noise(64, 96)], max_instances=50)
    contestants = Contestants("nuclei", "cpu")
    found = {name: contestants.instances(name, case) for name in (TORCHVISION, REFERENCE, FAST)}
    for name in (REFERENCE, FAST):
        alike = agreement(found[TORCHVISION], found[name])
        assert alike.same == alike.found == alike.expected > 0
        assert alike.box_px < 0.05
        assert alike.mask_share < 1e-4


def test_works_take_turns() -> None:
    order: list[str] = []
    median_seconds([lambda: order.append("a"), lambda: order.append("b")], rounds=2)
    assert order == ["a", "b", "a", "b"]
