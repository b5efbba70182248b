"""From one format into another: what is lost is known first, and nothing else is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from tests.core.strategies import assert_same_instances
from tests.dataset.made import CELLS, eleven, pixels_for

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken, RunCancelled
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.convert import Annotations, Conversion, Converted, ImageWritten
from napari_deeppixel.dataset.formats.coco import read_coco, write_coco
from napari_deeppixel.dataset.formats.registry import all_formats, guess_format
from napari_deeppixel.dataset.store import Dataset


def coco_with_images(folder: Path, *images: AnnotatedImage) -> Path:
    """Write a COCO file and a picture for each image; return the file."""
    for seed, image in enumerate(images):
        place = folder / image.file_name
        place.parent.mkdir(parents=True, exist_ok=True)
        iio.imwrite(place, pixels_for(image, seed))
    write_coco(images, folder / "instances.json")
    return folder / "instances.json"


def convert(source: Path, target: Path, **options: Any) -> Converted:
    """Convert all; return what came of it."""
    conversion = Conversion(Annotations(source), target, **options)
    assert list(conversion.survey())
    *written, done = conversion.write()
    assert all(isinstance(event, ImageWritten) for event in written)
    assert isinstance(done, Converted)
    return done


def without_disc(image: AnnotatedImage) -> AnnotatedImage:
    return replace(
        image,
        file_name="b.png",
        instances=image.instances.select(np.arange(1, 11)),
        crowds=InstanceSet.empty(image.image_hw, CELLS),
        image_id=5,
        state=ImageState.COMPLETE,
    )


def test_coco_into_a_dataset_and_back_is_the_same_file(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven(), without_disc(eleven()))
    done = convert(first, tmp_path / "dataset")
    assert (done.num_images, done.num_instances, done.problems) == (2, 21, ())
    dataset = Dataset.open(tmp_path / "dataset")
    assert [e.file_name for e in dataset.entries()] == ["b.png", "day 1/eleven.png"]
    assert [e.state for e in dataset.entries()] == [ImageState.COMPLETE, ImageState.DRAFT]
    convert(tmp_path / "dataset", tmp_path / "out.json")
    before = json.loads(first.read_text(encoding="utf-8"))
    after = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    by_id = {annotation["attributes"]["uuid"]: annotation for annotation in after["annotations"]}
    for annotation in before["annotations"]:
        again = by_id[annotation["attributes"]["uuid"]]
        # ids that both files had are unique in one file
        assert {k: v for k, v in again.items() if k not in ("id", "image_id")} == {
            k: v for k, v in annotation.items() if k not in ("id", "image_id")
        }
    images = {image["file_name"]: image for image in after["images"]}
    assert images == {image["file_name"]: image for image in before["images"]}
    assert after["categories"] == before["categories"]


@pytest.mark.parametrize(
    "name", [each.name for each in all_formats() if each.write is not None and not each.suffixes]
)
def test_every_format_of_a_folder_brings_masks_images_and_names_along(
    tmp_path: Path, name: str
) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    conversion = Conversion(
        Annotations(first), tmp_path / "there", format_name=name, keeps_rejected=True
    )
    list(conversion.survey())
    loss = conversion.loss
    assert loss is not None
    list(conversion.write())
    assert guess_format(tmp_path / "there").name == name
    (back,) = Annotations(tmp_path / "there", default_category="nucleus")
    assert back.path is not None
    assert np.array_equal(iio.imread(back.path), pixels_for(eleven()))
    if not (loss.instances_changed or loss.instances_split):
        areas = sorted(eleven().instances.areas.tolist())
        assert sorted(back.instances.areas.tolist()) == areas


def test_what_gets_lost_is_known_before_anything_is_written(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    conversion = Conversion(
        Annotations(first), tmp_path / "there", format_name="cellpose", keeps_rejected=True
    )
    with pytest.raises(ValueError, match="survey first"):
        next(conversion.write())
    list(conversion.survey())
    assert not (tmp_path / "there").exists()
    assert conversion.loss is not None
    # of the two discs that overlap, one is cut
    assert conversion.loss.overlaps_lost == 1
    assert conversion.loss.lost["scores"] == 6


@pytest.mark.parametrize(("name", "count"), [("coco", 11), ("geojson", 10), ("labels", 10)])
def test_what_was_rejected_does_not_pass_for_an_object_elsewhere(
    tmp_path: Path, name: str, count: int
) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    conversion = Conversion(Annotations(first), tmp_path / "there", format_name=name)
    list(conversion.survey())
    *_, done = conversion.write()
    assert isinstance(done, Converted)
    assert done.num_instances == count
    assert conversion.loss is not None
    assert conversion.loss.rejected == 11 - count
    (back,) = Annotations(tmp_path / "there")
    assert len(back.instances) == count
    is_told = "1 instances that were rejected are left out" in conversion.loss.lines()
    assert is_told == (count < 11)


def test_nothing_is_written_over_what_is_read(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    with pytest.raises(AnnotationError, match="read from there"):
        Conversion(Annotations(first), first)
    with pytest.raises(AnnotationError, match="no such file"):
        Annotations(tmp_path / "gone.json")
    with pytest.raises(AnnotationError, match="no such file"):
        Annotations(first, images_dir=tmp_path / "gone")


def test_an_image_that_is_missing_is_named_and_the_others_come_in(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven(), without_disc(eleven()))
    (tmp_path / "in" / "b.png").unlink()
    done = convert(first, tmp_path / "dataset")
    assert done.num_images == 1
    assert {problem.entry for problem in done.problems} == {"image b.png"}
    assert any("left out" in problem.message for problem in done.problems)
    # annotations alone need no image
    done = convert(first, tmp_path / "again.json")
    assert done.num_instances == 21


def test_images_elsewhere_are_found_where_they_are_said_to_be(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    (tmp_path / "annotations").mkdir()
    moved = first.rename(tmp_path / "annotations" / "instances.json")
    conversion = Conversion(Annotations(moved, images_dir=tmp_path / "in"), tmp_path / "dataset")
    list(conversion.survey())
    list(conversion.write())
    (entry,) = Dataset.open(tmp_path / "dataset").entries()
    # a rejected one is kept, and not counted
    assert entry.num_instances == 10


def test_a_second_conversion_into_a_dataset_changes_nothing_there(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    convert(first, tmp_path / "dataset")
    (before,) = Dataset.open(tmp_path / "dataset").annotated()
    done = convert(first, tmp_path / "dataset")
    assert done.num_images == 0
    assert "in the dataset already" in done.problems[0].message
    (after,) = Dataset.open(tmp_path / "dataset").annotated()
    assert_same_instances(after.instances, before.instances)


def test_annotations_come_to_an_image_that_has_none_yet(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    dataset = Dataset.create(tmp_path / "dataset", categories=CELLS)
    dataset.add_file(tmp_path / "in" / "day 1" / "eleven.png")
    done = convert(first, tmp_path / "dataset")
    assert (done.num_images, done.problems) == (1, ())
    (image,) = dataset.annotated()
    # it keeps the name that it has in the dataset
    assert (image.file_name, len(image.instances)) == ("eleven.png", 11)


def test_a_dataset_exports_its_images_on_request(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    convert(first, tmp_path / "dataset")
    convert(tmp_path / "dataset", tmp_path / "a.json", images_dir=tmp_path / "pictures")
    assert (tmp_path / "pictures" / "day 1" / "eleven.png").is_file()
    convert(tmp_path / "dataset", tmp_path / "coco", format_name="coco")
    (image,) = Annotations(tmp_path / "coco")
    assert image.path == tmp_path / "coco" / "images" / "day 1" / "eleven.png"
    (named,) = read_coco(tmp_path / "coco" / "instances.json")
    assert named.file_name == "day 1/eleven.png"


def test_a_cancelled_survey_writes_nothing(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven(), without_disc(eleven()))
    cancel = CancelToken()
    survey = Conversion(Annotations(first), tmp_path / "dataset").survey(cancel)
    next(survey)
    cancel.cancel()
    with pytest.raises(RunCancelled):
        next(survey)
    assert not (tmp_path / "dataset").exists()


def test_a_link_in_the_target_does_not_lead_out_of_it(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    (tmp_path / "outside").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "images").symlink_to(tmp_path / "outside")
    conversion = Conversion(Annotations(first), tmp_path / "there", format_name="coco")
    list(conversion.survey())
    with pytest.raises(AnnotationError, match="link"):
        list(conversion.write())
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("name", ["../../b.png", "/etc/b.png", "C:\\b.png", "..\\b.png"])
def test_a_name_that_leads_out_of_the_folder_is_told_and_stays_inside(
    tmp_path: Path, name: str
) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    document = json.loads(first.read_text(encoding="utf-8"))
    document["images"][0]["file_name"] = name
    first.write_text(json.dumps(document), encoding="utf-8")
    iio.imwrite(tmp_path / "b.png", pixels_for(eleven()))
    annotations = Annotations(first)
    (image,) = annotations
    assert (image.file_name, image.path) == ("b.png", None)
    assert "leads out of the folder; taken as 'b.png'" in str(annotations.problems[0])
    # where people say that the images are, the name alone is looked for
    (found,) = Annotations(first, images_dir=tmp_path)
    assert found.path == tmp_path / "b.png"


def test_a_file_of_nothing_but_crowds_is_told(tmp_path: Path) -> None:
    image = eleven()
    crowds_only = replace(
        image, instances=InstanceSet.empty(image.image_hw, CELLS), crowds=image.instances
    )
    annotations = Annotations(coco_with_images(tmp_path / "in", crowds_only))
    (read,) = annotations
    assert (len(read.instances), len(read.crowds)) == (0, 11)
    assert "all 11 annotations are marked iscrowd" in str(annotations.problems[-1])
