"""What a weights file says about itself survives the way to disk, and damage is told."""

import json
from dataclasses import asdict, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import category_tables

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.engine.spec import SPEC_VERSION, ModelSpec, slim_spec

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
normalizations = st.builds(
    Normalization,
    mode=st.sampled_from(["auto", "percentile", "range"]),
    low=st.floats(0, 40),
    high=st.floats(50, 100),
    clip_low=st.floats(-1, 0),
    clip_high=st.floats(1, 2),
)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    inputs = draw(st.integers(1, 4))
    values = st.lists(finite, min_size=inputs, max_size=inputs).map(tuple)
    is_resized = draw(st.booleans())
    return ModelSpec(
        name=draw(st.text(max_size=6)),
        architecture=draw(
            st.sampled_from(["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "maskrcnn_slim"])
        ),
        categories=draw(category_tables()),
        description=draw(st.text(max_size=6)),
        normalization=draw(normalizations),
        image_mean=draw(values),
        image_std=draw(values),
        min_size=draw(st.integers(1, 4000)) if is_resized else None,
        max_size=draw(st.integers(1, 4000)) if is_resized else None,
        anchor_sizes=draw(
            st.lists(st.lists(st.integers(1, 512), max_size=2).map(tuple), max_size=5).map(tuple)
        ),
        aspect_ratios=draw(st.lists(st.floats(0.1, 9), max_size=3).map(tuple)),
        fpn_channels=draw(st.integers(1, 256)),
        frozen_batch_norm=draw(st.booleans()),
        batch_norm_eps=draw(st.floats(0, 1)),
        score=draw(st.floats(0, 1)),
        box_nms=draw(st.floats(0, 1)),
        rpn_post_nms_top_n=draw(st.integers(1, 5000)),
        provenance=draw(st.dictionaries(st.text(max_size=4), json_values, max_size=3)),
    )


def nuclei() -> ModelSpec:
    return slim_spec("nuclei", CategoryTable.from_names("nucleus"))


@given(specs())
def test_a_spec_to_json_and_back_is_the_same(spec: ModelSpec) -> None:
    again = ModelSpec.from_json(spec.to_json())
    assert again == spec
    # tuples stay tuples, down to the anchors: a spec is compared and hashed by them
    for field in fields(ModelSpec):
        assert type(getattr(again, field.name)) is type(getattr(spec, field.name)), field.name


def test_a_spec_says_its_version_and_every_field() -> None:
    values = json.loads(nuclei().to_json())
    assert values.pop("spec_version") == SPEC_VERSION
    assert set(values) == {field.name for field in fields(ModelSpec)}
    assert values["min_size"] is None
    assert values["categories"]["categories"][0]["name"] == "nucleus"


def test_a_later_version_is_refused_with_what_to_do() -> None:
    text = json.dumps({"spec_version": SPEC_VERSION + 1, "something": "new"})
    with pytest.raises(WeightsError, match=r"has version 2, .* up to 1: update napari-deeppixel"):
        ModelSpec.from_json(text)


def changed(**changes: Any) -> str:
    return json.dumps(json.loads(nuclei().to_json()) | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "5",
        "[]",
        "null",
        "{}",
        '"text"',
        nuclei().to_json()[:-20],
        changed(extra=1),
        changed(spec_version="one"),
        changed(spec_version=None),
        changed(score="high"),
        changed(score=2),
        changed(box_nms=-1),
        changed(categories=None),
        changed(categories={"categories": []}),
        changed(categories={"categories": [{"id": 1}], "class_indices": [1]}),
        changed(categories={"categories": [], "class_indices": [1]}),
        changed(normalization={"mode": "minmax"}),
        changed(normalization={"low": 9, "high": 3}),
        changed(normalization=[1, 2]),
        changed(anchor_sizes=[1, 2]),
        changed(anchor_sizes=None),
        changed(image_mean=5),
        changed(image_mean=[0.5]),
        changed(min_size=800),
    ],
)
def test_a_damaged_description_is_a_weights_error(text: str) -> None:
    with pytest.raises(WeightsError, match="the model description is damaged"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize(
    "name", ["spec_version", "name", "architecture", "categories", "normalization", "image_mean"]
)
def test_a_description_without_a_needed_part_is_a_weights_error(name: str) -> None:
    values = json.loads(nuclei().to_json())
    del values[name]
    with pytest.raises(WeightsError, match="damaged"):
        ModelSpec.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_size": 800}, "min_size and max_size or neither, got 800 and None"),
        ({"image_std": (1.0,)}, "differ in length"),
        ({"score": 1.5}, "score must lie in 0..1, got 1.5"),
        ({"box_nms": -0.1}, "box_nms must lie in 0..1"),
        ({"zoom": 0}, "zoom must be above 0, and 1 beside min_size, got 0"),
        ({"zoom": float("nan")}, "zoom must be above 0"),
        ({"zoom": 2, "min_size": 8, "max_size": 9}, "and 1 beside min_size, got 2"),
    ],
)
def test_a_wrong_spec_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        slim_spec("x", CategoryTable.from_names("cell"), **changes)


def test_the_slim_spec_keeps_images_at_their_size_and_takes_changes() -> None:
    spec = slim_spec("x", CategoryTable.from_names("a", "b"), description="d", score=0.7)
    assert (spec.min_size, spec.max_size, spec.num_inputs) == (None, None, 3)
    assert (spec.score, spec.description) == (0.7, "d")
    assert asdict(spec)["categories"]["class_indices"] == (1, 2)
