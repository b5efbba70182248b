"""Losses where parts of a crop are unknown, or instances may be wrong."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.training.datasets import CELLS

from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.training.ignore import ignored_share, respect_ignored

SLIM = slim_spec("discs", CELLS, fpn_channels=8, rpn_post_nms_top_n=50)
SMALL = {"categories": CELLS, "min_size": 64, "max_size": 64}
SPECS = {
    "slim": SLIM,
    "resnet50": ModelSpec(name="a", architecture="maskrcnn_resnet50_fpn", **SMALL),
    "resnet50 v2": ModelSpec(name="b", architecture="maskrcnn_resnet50_fpn_v2", **SMALL),
}


def target_of(boxes: list[list[int]], size: int = 64, **others: Any) -> dict[str, torch.Tensor]:
    masks = torch.zeros((len(boxes), size, size), dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "masks": masks,
        "weights": torch.ones(len(boxes)),
        "ignored": torch.zeros((size, size), dtype=torch.bool),
    } | others


def right_half(size: int = 64) -> torch.Tensor:
    ignored = torch.zeros((size, size), dtype=torch.bool)
    ignored[:, size // 2 :] = True
    return ignored


def images(count: int = 2, size: int = 64) -> list[torch.Tensor]:
    return list(torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(4)))


def losses_of(
    model: Any, targets: list[dict[str, torch.Tensor]], seed: int = 0
) -> dict[str, torch.Tensor]:
    """Return the losses, with the same proposals drawn for the same seed."""
    torch.manual_seed(seed)
    found: dict[str, torch.Tensor] = model(images(len(targets)), targets)
    return found


@pytest.fixture(params=SPECS, scope="module")
def models(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Give one network twice: as torchvision trains it, and as we do."""
    torch.manual_seed(1)
    plain = build_model(SPECS[request.param]).train()
    # as few proposals as show what becomes of them
    plain.rpn._post_nms_top_n = {"training": 50, "testing": 20}
    plain.roi_heads.fg_bg_sampler.batch_size_per_image = 16
    # statistics of a batch would change from call to call
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    ours = copy.deepcopy(plain)
    respect_ignored(ours)
    # torchvision draws a random number for the size of each crop, which ours keeps
    plain.transform.resize = lambda image, target=None: (image, target)
    return plain, ours


@pytest.fixture(scope="module")
def slim() -> Any:
    torch.manual_seed(1)
    model = build_model(SLIM).train()
    respect_ignored(model)
    return model


def test_with_nothing_ignored_and_all_weights_1_losses_are_torchvisions(
    models: tuple[Any, Any],
) -> None:
    targets = [target_of([[4, 6, 20, 24], [30, 30, 50, 44]]), target_of([])]
    bare = [{k: t[k] for k in ("boxes", "labels", "masks")} for t in targets]
    plain, ours = models
    for seed in range(2):
        expected = losses_of(plain, bare, seed)
        for given_targets in (targets, bare):
            found = losses_of(ours, given_targets, seed)
            assert found.keys() == expected.keys()
            for name, loss in expected.items():
                assert torch.isfinite(loss)
                assert torch.equal(found[name], loss), name


def test_predictions_stay_the_same(models: tuple[Any, Any]) -> None:
    plain, ours = (copy.deepcopy(model).eval() for model in models)
    with torch.inference_mode():
        expected, found = plain(images(1))[0], ours(images(1))[0]
    for name, value in expected.items():
        assert torch.equal(found[name], value)


def test_crops_keep_their_size_in_training_alone() -> None:
    ours = build_model(replace(SLIM, min_size=64, max_size=64))
    respect_ignored(ours)
    target = target_of([[4, 6, 20, 24]], size=40, ignored=right_half(40))
    batch, (kept,) = ours.train().transform(images(1, 40), [target])
    assert batch.image_sizes == [(40, 40)]
    assert kept["boxes"].tolist() == [[4, 6, 20, 24]]
    assert kept["ignored"].shape == (40, 40)
    batch, _ = ours.eval().transform(images(1, 40))
    assert batch.image_sizes == [(64, 64)]


def test_anchors_in_ignored_pixels_are_neither_object_nor_background(
    models: tuple[Any, Any],
) -> None:
    plain, ours = models
    target = target_of([[4, 6, 20, 24], [44, 30, 60, 48]], ignored=right_half())
    batch, targets = ours.transform(images(1), [target])
    levels = list(ours.backbone(batch.tensors).values())
    anchors = ours.rpn.anchor_generator(batch, levels)
    (before,), _ = plain.rpn.assign_targets_to_anchors(anchors, targets)
    (after,), _ = ours.rpn.assign_targets_to_anchors(anchors, targets)
    height, width = batch.image_sizes[0]
    x1, y1, x2, y2 = anchors[0].unbind(1)
    # by hand: the part of an anchor's width in the image that lies to the right of the middle
    inside = x2.clamp(0, width) - x1.clamp(0, width)
    share = (x2.clamp(max=width) - x1.clamp(min=width / 2)).clamp(min=0) / inside
    is_seen = (inside > 0) & (y2.clamp(0, height) > y1.clamp(0, height))
    is_ignored = is_seen & (share >= 0.5) & (before == 0)
    assert is_ignored.any()
    assert (after[is_ignored] == -1).all()
    assert torch.equal(after[~is_ignored], before[~is_ignored])
    # the object in the ignored half is learnt all the same
    assert ((after == 1) & (share >= 0.5)).any()


def test_background_logits_of_the_ignored_half_get_no_gradient(slim: Any) -> None:
    target = target_of([[4, 6, 20, 24]], ignored=right_half())
    batch, targets = slim.transform(images(1), [target])
    anchors = slim.rpn.anchor_generator(batch, list(slim.backbone(batch.tensors).values()))
    lies_right = ignored_share(anchors[0], right_half()) >= 0.5
    rpn = copy.deepcopy(slim.rpn)
    # every anchor that may be drawn is drawn
    rpn.fg_bg_sampler.batch_size_per_image = 10**6

    def gradient(values: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        logits = torch.zeros(len(anchors[0]), 1, requires_grad=True)
        deltas = torch.zeros(len(anchors[0]), 4, requires_grad=True)
        labels, matched = rpn.assign_targets_to_anchors(anchors, values)
        regression = rpn.box_coder.encode(matched, anchors)
        sum(rpn.compute_loss(logits, deltas, labels, regression)).backward()
        assert logits.grad is not None
        return logits.grad[:, 0]

    ignoring = gradient(targets)
    assert (ignoring[lies_right] == 0).all()
    assert (ignoring[~lies_right] != 0).float().mean() > 0.9
    believing = gradient([target_of([[4, 6, 20, 24]])])
    assert (believing[lies_right] > 0).all()


def test_proposals_in_ignored_pixels_are_not_drawn_as_background(slim: Any) -> None:
    boxes = torch.tensor([[40.0, 4, 60, 24], [8, 40, 24, 60], [5, 7, 20, 25], [24, 4, 40, 20]])
    target = target_of([[4, 6, 20, 24]], ignored=right_half())
    heads = slim.roi_heads
    heads._ignored = [target["ignored"]]
    _, (labels,) = heads.assign_targets_to_proposals([boxes], [target["boxes"]], [target["labels"]])
    # in the ignored half, in the other, on the object, exactly half in the ignored half
    assert labels.tolist() == [-1, 0, 1, -1]


def test_classes_of_ignored_proposals_do_not_move_the_loss(slim: Any) -> None:
    """The same features everywhere: what is drawn decides the loss."""
    heads = copy.deepcopy(slim.roi_heads)
    features = {str(n): torch.zeros(1, 8, 16 >> n, 16 >> n) for n in range(3)}
    proposals = [torch.tensor([[40.0, 4, 60, 24], [8, 40, 24, 60]])]
    drawn = []
    heads.box_head.register_forward_hook(lambda _m, _i, out: drawn.append(len(out)))
    for ignored in (right_half(), torch.zeros(64, 64, dtype=torch.bool)):
        target = target_of([[4, 6, 20, 24]], ignored=ignored)
        heads(features, [p.clone() for p in proposals], [(64, 64)], [target])
    # the object itself is a proposal, too
    assert drawn == [2, 3]


@pytest.mark.parametrize("boxes", [[], [[40, 30, 60, 48]]])
def test_a_batch_of_which_all_is_ignored_has_losses_of_0_or_of_its_objects(
    slim: Any, boxes: list[list[int]]
) -> None:
    everything = torch.ones((64, 64), dtype=torch.bool)
    losses = losses_of(slim, [target_of(boxes, ignored=everything)] * 2)
    total = sum(losses.values())
    assert torch.isfinite(total)
    assert (total == 0) == (not boxes)
    slim.zero_grad()
    total.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in slim.parameters())


WEIGHTED = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")


@pytest.mark.parametrize("name", WEIGHTED)
def test_losses_are_linear_in_the_weights_of_instances(slim: Any, name: str) -> None:
    def loss(*weights: float) -> float:
        target = target_of(
            [[4, 6, 20, 24], [30, 30, 50, 44]], weights=torch.tensor(weights), ignored=right_half()
        )
        return float(losses_of(slim, [target])[name].detach())

    both, first, second, none = loss(1, 1), loss(1, 1e-9), loss(1e-9, 1), loss(1e-9, 1e-9)
    assert both > none
    assert loss(0.5, 0.5) == pytest.approx((both + none) / 2, rel=1e-4)
    assert first + second == pytest.approx(both + none, rel=1e-4)
    assert first > none
    assert second > none
    # background weighs what it weighed; boxes and masks have none
    has_background = name in ("loss_classifier", "loss_objectness")
    assert (none > 1e-6) == has_background


def test_a_light_instance_moves_the_weights_less(slim: Any) -> None:
    def gradient(weight: float) -> torch.Tensor:
        slim.zero_grad()
        target = target_of([[4, 6, 20, 24]], weights=torch.tensor([weight]))
        losses_of(slim, [target])["loss_mask"].backward()
        values = slim.roi_heads.mask_predictor.mask_fcn_logits.weight.grad
        assert values is not None
        return values.clone()

    assert torch.allclose(gradient(0.5), gradient(1.0) / 2, atol=1e-7)


def test_a_copy_of_the_network_respects_its_own_targets(slim: Any) -> None:
    everything = torch.ones((64, 64), dtype=torch.bool)
    twin = copy.deepcopy(slim)
    assert sum(losses_of(twin, [target_of([], ignored=everything)]).values()) == 0


def by_counting(box: list[float], ignored: np.ndarray) -> float:
    """Return the ignored share of a box on tenths of pixels."""
    fine = np.kron(ignored, np.ones((10, 10)))
    x1, y1, x2, y2 = (round(10 * edge) for edge in box)
    part = fine[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    return float(part.mean()) if part.size else 0.0


@given(st.integers(0, 2**32))
def test_the_ignored_share_of_a_box_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ignored = rng.random((7, 11)) < 0.4
    corners = rng.integers(-30, 140, (20, 2, 2)) / 10
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    found = ignored_share(torch.tensor(boxes, dtype=torch.float32), torch.from_numpy(ignored))
    expected = [by_counting(box, ignored) for box in boxes.tolist()]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ([0, 0, 4, 4], 0.5),
        ([2, 0, 4, 1], 1.0),
        ([0, 0, 2, 4], 0.0),
        ([1.5, 0, 2.5, 4], 0.5),
        ([2, -10, 14, 14], 1.0),  # reaches out of the image
        ([5, 0, 9, 4], 0.0),  # lies beside it
        ([3, 3, 3, 3], 0.0),  # has no area
    ],
)
def test_the_ignored_share_of_boxes_at_the_border(box: list[float], share: float) -> None:
    assert ignored_share(torch.tensor([box]).float(), right_half(4)).tolist() == pytest.approx(
        [share]
    )


def test_no_box_has_no_share() -> None:
    assert ignored_share(torch.zeros((0, 4)), right_half(4)).shape == (0,)
