"""Likely label mistakes, on made images with one mistake each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fakes import ThresholdEngine
from tests.training.datasets import disc, instances_of, rectangle, write_split

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError, RunCancelled
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training.mistake import Mistake, MistakeAnswer, MistakeKind, hash_of
from napari_deeppixel.training.mistake_overlaps import Overlaps
from napari_deeppixel.training.mistake_reasons import outline_reason, spurious_reason
from napari_deeppixel.training.mistake_search import search_mistakes
from napari_deeppixel.training.mistakes import find_mistakes
from napari_deeppixel.training.mistakes_file import MistakeList, load_mistakes, save_mistakes

HW = (100, 150)
TWO = CategoryTable.from_names("cell", "debris")
# discs of radius 8 in rows of five
PLACES = [(x, y) for y in (15, 45, 75) for x in (15, 45, 75, 105, 135)]
DISCS = [disc(x, y, 8) for x, y in PLACES]


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """An annotated image, as `find_mistakes` takes it."""

    instances: InstanceSet
    file_name: str = "made.png"
    plane: tuple[int, ...] = ()
    ignored: CroppedMask | None = None


def annotations(masks: Sequence[CroppedMask] = DISCS, **fields: Any) -> InstanceSet:
    uuids = tuple(str(n) for n in range(len(masks)))
    return instances_of(masks, HW, **({"uuids": uuids} | fields))


def predictions(
    masks: Sequence[CroppedMask] = DISCS, scores: float | Sequence[float] = 0.99, **fields: Any
) -> InstanceSet:
    values = np.broadcast_to(np.asarray(scores, float), len(masks))
    sources = ("made@1",) * len(masks)
    return instances_of(masks, HW, scores=values, sources=sources, **fields)


def found(
    annotated: InstanceSet, predicted: InstanceSet, ignored: CroppedMask | None = None
) -> list[Mistake]:
    return find_mistakes([Made(instances=annotated, ignored=ignored)], [predicted], score=0.7)


def told(mistakes: Sequence[Mistake]) -> list[tuple[str, str]]:
    return [(mistake.kind.value, mistake.uuid) for mistake in mistakes]


def test_nothing_is_told_where_model_and_annotations_agree() -> None:
    assert found(annotations(), predictions()) == []


def test_no_annotation_and_no_prediction_are_no_mistake() -> None:
    assert found(annotations([]), predictions([])) == []
    assert found(annotations([]), predictions([DISCS[0]], 0.3)) == []


def test_an_object_that_nobody_annotated_is_missing() -> None:
    (mistake,) = found(annotations(DISCS[1:]), predictions())
    assert told([mistake]) == [("missing", "")]
    assert mistake.mask is not None
    assert mistake.mask.equals(DISCS[0])
    assert mistake.box_xyxy == (7, 7, 24, 24)
    assert mistake.reason == "nobody annotated this, but the model is 99% sure of a cell"
    assert (mistake.category, mistake.source, mistake.score) == ("cell", "made@1", 0.99)
    assert mistake.image_hw == HW


def test_one_pixel_at_the_border_may_be_missing() -> None:
    corner = rectangle(149, 99, 150, 100)
    (mistake,) = found(annotations(), predictions([*DISCS, corner]))
    assert mistake.box_xyxy == (149, 99, 150, 100)


def test_what_the_model_is_less_sure_of_is_not_missing() -> None:
    assert found(annotations(DISCS[1:]), predictions(scores=[0.6] + [0.99] * 14)) == []


def test_nothing_is_missing_where_nobody_looked() -> None:
    unknown = rectangle(0, 0, 40, 40)
    assert found(annotations(DISCS[1:]), predictions(), ignored=unknown) == []
    elsewhere = rectangle(60, 0, 90, 40)
    assert len(found(annotations(DISCS[1:]), predictions(), ignored=elsewhere)) == 1


def test_an_object_is_missing_once_however_often_the_model_finds_it() -> None:
    twice = [*DISCS, disc(16, 15, 8)]
    assert told(found(annotations(DISCS[1:]), predictions(twice))) == [("missing", "")]


def test_an_annotation_of_nothing_is_spurious() -> None:
    extra = disc(30, 90, 8)
    (mistake,) = found(annotations([*DISCS, extra]), predictions())
    assert told([mistake]) == [("spurious", "15")]
    assert mistake.mask is None
    assert mistake.mask_hash == hash_of(extra)
    assert mistake.reason == (
        "the model finds nothing here, though it finds 12 of the 12 nearest objects"
    )


def test_a_candidate_speaks_for_an_annotation() -> None:
    extra = disc(30, 90, 8)
    masks = annotations([*DISCS, extra])
    assert found(masks, predictions([*DISCS, extra], [0.99] * 15 + [0.55])) == []
    (weak,) = found(masks, predictions([*DISCS, extra], [0.99] * 15 + [0.1]))
    assert weak.reason.startswith("the model is only 10% sure of anything here")
    (none,) = found(masks, predictions())
    assert none.severity > weak.severity


def test_nothing_is_spurious_among_objects_that_the_model_does_not_find() -> None:
    assert found(annotations(), predictions(DISCS[:2])) == []


def test_an_outline_that_is_too_small_is_told_with_how_much() -> None:
    small = [disc(15, 15, 4), *DISCS[1:]]
    (mistake,) = found(annotations(small), predictions())
    assert told([mistake]) == [("outline", "0")]
    assert mistake.mask is not None
    assert mistake.mask.equals(DISCS[0])
    # 49 and 197 pixels
    assert mistake.reason.startswith("the model's outline is 4.0 times as large, reaches 4 px")


def test_an_outline_on_which_both_agree_as_usual_is_none() -> None:
    # all outlines of the model are a pixel wider: that is how it draws
    wide = [disc(x, y, 9) for x, y in PLACES]
    assert found(annotations(), predictions(wide)) == []


def test_an_annotation_of_two_objects_is_told_with_both() -> None:
    left, right = rectangle(60, 55, 70, 66), rectangle(71, 55, 82, 66)
    both = rectangle(60, 55, 82, 66)
    (mistake,) = found(annotations([*DISCS, both]), predictions([*DISCS, left, right]))
    assert told([mistake]) == [("outline", "15")]
    assert mistake.reason == "looks like 2 objects: the model finds 2 in this one"
    assert mistake.mask is not None
    masks = sorted(m.box_xyxy for m in (mistake.mask, *mistake.more_masks))
    assert masks == [left.box_xyxy, right.box_xyxy]


def test_two_annotations_of_one_object_are_told_once() -> None:
    left, right = rectangle(60, 55, 70, 66), rectangle(70, 55, 82, 66)
    both = rectangle(60, 55, 82, 66)
    mistakes = found(annotations([*DISCS, left, right]), predictions([*DISCS, both]))
    assert ("outline", "16") in told(mistakes)
    (mistake,) = [m for m in mistakes if m.more_uuids]
    assert (mistake.uuid, mistake.more_uuids) == ("16", ("15",))
    assert mistake.reason == (
        "looks like a part of an object: the model sees one where 2 are annotated"
    )
    assert len(mistakes) == 1


def test_candidates_of_their_own_speak_for_two_objects() -> None:
    left, right = rectangle(60, 55, 70, 66), rectangle(70, 55, 82, 66)
    both = rectangle(60, 55, 82, 66)
    scores = [0.99] * 15 + [0.8, 0.65, 0.65]
    candidates = predictions([*DISCS, both, left, right], scores)
    assert found(annotations([*DISCS, left, right]), candidates) == []


def test_another_category_is_told_where_the_model_is_sure_of_it() -> None:
    ids = np.ones(15, np.int64)
    theirs = np.array([2] + [1] * 14)
    (mistake,) = found(
        annotations(categories=TWO, category_ids=ids),
        predictions(categories=TWO, category_ids=theirs),
    )
    assert told([mistake]) == [("category", "0")]
    assert mistake.category == "debris"
    assert mistake.reason == "the model is 99% sure that this is debris, not cell"


def test_categories_are_compared_by_name_and_not_by_id() -> None:
    turned = CategoryTable.from_names("debris", "cell")
    ids = np.ones(15, np.int64)
    annotated = annotations(categories=TWO, category_ids=ids)
    assert found(annotated, predictions(categories=turned, category_ids=ids + 1)) == []


def test_categories_that_only_one_side_knows_are_not_judged() -> None:
    ours, theirs = (
        CategoryTable.from_names("cell", "fibre"),
        CategoryTable.from_names("cell", "dog"),
    )
    fibre, dog = disc(30, 90, 8), disc(60, 30, 6)
    annotated = annotations([*DISCS, fibre], categories=ours, category_ids=[1] * 15 + [2])
    predicted = predictions([*DISCS, dog], categories=theirs, category_ids=[1] * 15 + [2])
    assert found(annotated, predicted) == []
    # nor is what the model takes for a cell missing where a fibre is annotated
    on_fibre = predictions([*DISCS, fibre], categories=theirs, category_ids=[1] * 16)
    assert found(annotated, on_fibre) == []


def test_without_a_common_category_all_objects_count_as_of_one_kind() -> None:
    nuclei = CategoryTable.from_names("nucleus")
    (mistake,) = found(annotations(DISCS[1:]), predictions(categories=nuclei))
    assert mistake.category == "cell"


def test_the_worst_comes_first_and_severities_lie_in_0_to_1() -> None:
    extra = disc(30, 90, 8)
    mistakes = found(annotations([disc(15, 15, 4), *DISCS[1:14], extra]), predictions(scores=0.97))
    assert sorted(told(mistakes)) == [("missing", ""), ("outline", "0"), ("spurious", "14")]
    severities = [mistake.severity for mistake in mistakes]
    assert severities == sorted(severities, reverse=True)
    assert all(0 < severity <= 1 for severity in severities)


def test_images_and_predictions_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="zip"):
        find_mistakes([Made(instances=annotations())], [], score=0.7)


def test_overlaps_hold_each_pair_that_shares_a_pixel_once() -> None:
    a = annotations([rectangle(0, 0, 4, 3), rectangle(50, 50, 60, 60)])
    b = predictions([rectangle(2, 0, 6, 3), rectangle(4, 0, 8, 3)])
    overlaps = Overlaps.of(a, b)
    assert list(zip(overlaps.annotation, overlaps.prediction, strict=True)) == [(0, 0)]
    # 6 of 12 pixels each, 18 in all
    assert overlaps.iou.tolist() == [6 / 18]
    assert overlaps.annotation_share.tolist() == [0.5]
    assert overlaps.best_predictions.tolist() == [0, -1]
    assert overlaps.best_ious.tolist() == [6 / 18, 0]


@pytest.mark.parametrize(
    ("predicted", "reason"),
    [
        (rectangle(10, 10, 34, 30), "is 20% larger and reaches 4 px further on the right"),
        (rectangle(14, 10, 30, 30), "is 20% smaller and leaves out 4 px on the left"),
        (
            rectangle(10, 5, 30, 25),
            "reaches 5 px further at the top and leaves out 5 px at the bottom",
        ),
        (rectangle(10, 10, 30, 19), "is 2.2 times smaller and leaves out 11 px at the bottom"),
    ],
)
def test_an_outline_is_described_by_size_and_sides(predicted: CroppedMask, reason: str) -> None:
    assert outline_reason(rectangle(10, 10, 30, 30), predicted) == f"the model's outline {reason}"


def test_an_outline_of_equal_size_and_place_differs_in_shape() -> None:
    ring = np.ones((20, 20), np.bool_)
    ring[5:10, 5:8] = False
    holed = CroppedMask(pixels=ring, y=10, x=10)
    # 385 of 400 pixels
    assert outline_reason(rectangle(10, 10, 30, 30), holed) == (
        "the model's outline has another shape: they share 96% of their pixels"
    )


def test_an_annotation_alone_is_judged_without_neighbours() -> None:
    reason = spurious_reason(num_found=0, num_near=0, score=0.0)
    assert reason == "the model finds nothing here"


# -- the file ---------------------------------------------------------------------------------


def some_mistakes() -> MistakeList:
    left, right = rectangle(60, 55, 70, 66), rectangle(71, 55, 82, 66)
    both = rectangle(60, 55, 82, 66)
    extra = disc(30, 90, 8)
    mistakes = found(
        annotations([*DISCS[1:], both, extra]), predictions([*DISCS, left, right], 0.98)
    )
    assert len(mistakes) == 3
    return MistakeList(
        mistakes=tuple(mistakes), dataset="/set", model="made@1", date="2026-01-02T03:04:05+00:00"
    )


def test_a_file_gives_back_the_list_that_was_written(tmp_path: Path) -> None:
    written = some_mistakes().answered(1, MistakeAnswer.DISMISSED)
    save_mistakes(tmp_path / "mistakes.json", written)
    read = load_mistakes(tmp_path / "mistakes.json")
    assert (read.dataset, read.model, read.date) == (written.dataset, written.model, written.date)
    assert read.num_open == 2
    for a, b in zip(written.mistakes, read.mistakes, strict=True):
        plain: dict[str, Any] = {"mask": None, "more_masks": (), "severity": 0.0, "score": 0.0}
        assert vars(replace(a, **plain)) == vars(replace(b, **plain))
        assert b.severity == pytest.approx(a.severity, abs=1e-4)
        assert np.array_equal([a.score], [b.score], equal_nan=True)
        for one, other in zip((a.mask, *a.more_masks), (b.mask, *b.more_masks), strict=True):
            assert (one is None) == (other is None)
            assert one is None or other is None or one.equals(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "cannot be read"),
        pytest.param("[" * 200_000, "nested too deeply", id="nested"),
        ("[]", "no file of label mistakes"),
        ('{"format": "napari-deeppixel mistakes", "version": 9}', "version 9"),
        ('{"format": "napari-deeppixel mistakes", "version": 1}', "cannot be read"),
    ],
)
def test_a_file_that_is_no_list_is_refused_with_its_name(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=message) as error:
        load_mistakes(path)
    assert str(path) in str(error.value)


def test_what_was_dismissed_stays_so_in_a_new_list_and_what_was_fixed_comes_again() -> None:
    first = some_mistakes()
    kinds = [m.kind for m in first.mistakes]
    missing, spurious = kinds.index(MistakeKind.MISSING), kinds.index(MistakeKind.SPURIOUS)
    outline = kinds.index(MistakeKind.OUTLINE)
    earlier = (
        first.answered(missing, MistakeAnswer.DISMISSED)
        .answered(spurious, MistakeAnswer.DISMISSED)
        .answered(outline, MistakeAnswer.FIXED)
    )
    again = first.with_answers_of(earlier)
    assert again.mistakes[missing].answer is MistakeAnswer.DISMISSED
    assert again.mistakes[spurious].answer is MistakeAnswer.DISMISSED
    assert again.mistakes[outline].answer is MistakeAnswer.OPEN
    # a mask that was changed since is looked at anew; a missing object may be drawn otherwise
    moved = replace(first.mistakes[spurious], mask_hash="other")
    nearly = replace(first.mistakes[missing], mask=disc(16, 15, 8))
    other = replace(first, mistakes=(moved, nearly)).with_answers_of(earlier)
    assert [m.is_open for m in other.mistakes] == [True, False]


# -- a dataset --------------------------------------------------------------------------------


def bright(places: Sequence[CroppedMask]) -> np.ndarray:
    pixels = np.zeros(HW, np.uint8)
    for mask in places:
        pixels[mask.slices][mask.pixels] = 250
    return pixels


ENGINE = ThresholdEngine(threshold=0.2)


def made_dataset(folder: Path, **others: Any) -> Dataset:
    """Return a dataset of one image with the first disc left out, pinned to train."""
    split = write_split(folder / "one", {"1.png": (bright(DISCS), annotations(DISCS))})
    dataset = Dataset.create(folder / "set", categories=CategoryTable.from_names("cell"))
    instances = others.pop("instances", annotations(DISCS[1:]))
    plane = AnnotatedImage.of("1.png", instances, split=Split.TRAIN, **others)
    state = others.get("state", ImageState.COMPLETE)
    dataset.add_file(split / "1.png", planes=[plane], state=state)
    dataset.set_split(["1.png"], Split.TRAIN)
    return dataset


def test_a_dataset_is_searched_and_told_by_its_image_ids(tmp_path: Path) -> None:
    dataset = made_dataset(tmp_path)
    progress: list[Progress] = []
    found = search_mistakes(dataset.path, ENGINE, on_progress=progress.append)
    (mistake,) = found.mistakes
    assert (mistake.file_name, mistake.kind) == ("1.png", MistakeKind.MISSING)
    assert found.dataset == str(dataset.path)
    assert [p.message for p in progress] == ["1.png"]


def test_what_a_person_rejected_is_not_missing(tmp_path: Path) -> None:
    states = [InstanceState.REJECTED] + [InstanceState.ACCEPTED] * 14
    dataset = made_dataset(tmp_path, instances=annotations(states=tuple(states)))
    assert search_mistakes(dataset.path, ENGINE).mistakes == ()


def test_a_split_that_nobody_asked_for_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = made_dataset(tmp_path)
    read: list[list[Split] | None] = []
    annotated = Dataset.annotated

    def noted(self: Dataset, splits: Iterable[Split] | None = None, **others: Any) -> Any:
        read.append(None if splits is None else list(splits))
        return annotated(self, splits, **others)

    monkeypatch.setattr(Dataset, "annotated", noted)
    assert len(search_mistakes(dataset.path, ENGINE, splits=[Split.TRAIN]).mistakes) == 1
    # its samples, then what was rejected
    assert read == [[Split.TRAIN], [Split.TRAIN]]
    dataset.set_split(["1.png"], Split.TEST)
    with pytest.raises(AnnotationError, match="no complete image is in the splits train, val"):
        search_mistakes(dataset.path, ENGINE)
    assert len(read) == 2


def test_images_that_nobody_completed_are_refused(tmp_path: Path) -> None:
    dataset = made_dataset(tmp_path, state=ImageState.DRAFT)
    with pytest.raises(AnnotationError, match="mark images or regions complete"):
        search_mistakes(dataset.path, ENGINE)


def test_a_complete_region_is_searched_alone(tmp_path: Path) -> None:
    left = ((0.0, 0.0), (60.0, 0.0), (60.0, 100.0), (0.0, 100.0))
    # missing are the first disc, inside, and the last, outside
    dataset = made_dataset(
        tmp_path, state=ImageState.DRAFT, regions=(left,), instances=annotations(DISCS[1:14])
    )
    (mistake,) = search_mistakes(dataset.path, ENGINE).mistakes
    assert mistake.box_xyxy == (7, 7, 24, 24)


def test_folders_of_coco_files_are_searched_too(tmp_path: Path) -> None:
    images = {"1.png": (bright(DISCS), annotations(DISCS[1:]))}
    split = write_split(tmp_path / "data" / "val", images)
    assert len(search_mistakes(split, ENGINE).mistakes) == 1
    assert len(search_mistakes(tmp_path / "data", ENGINE).mistakes) == 1
    with pytest.raises(AnnotationError, match="splits train"):
        search_mistakes(tmp_path / "data", ENGINE, splits=[Split.TRAIN])


def test_a_search_can_be_cancelled(tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(RunCancelled):
        search_mistakes(made_dataset(tmp_path).path, ENGINE, cancel=cancel)
