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
from napari_deeppixel.dataset.store import Dataset, SplitRule


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
    conversion = Conversion(
        Annotations(first), tmp_path / "there", format_name="coco", overwrites=True
    )
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


def other(name: str, **changes: Any) -> AnnotatedImage:
    return replace(without_disc(eleven()), **{"file_name": name, "image_id": name} | changes)


def test_a_bad_image_does_not_keep_the_good_ones_out(tmp_path: Path) -> None:
    images = (other("a.png"), other("b.png"), other("c.png"))
    first = coco_with_images(tmp_path / "in", *images)
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    iio.imwrite(tmp_path / "in" / "b.png", np.zeros((3, 4), np.uint8))
    done = convert(first, tmp_path / "dataset")
    assert done.num_images == 1
    assert [p.entry for p in done.problems] == ["image a.png", "image b.png"]
    assert "90 x 120 pixels (height x width), but its image b.png 3 x 4" in done.problems[1].message
    (entry,) = Dataset.open(tmp_path / "dataset").entries()
    assert entry.file_name == "c.png"


def test_crowds_that_a_known_image_does_not_take_are_told(tmp_path: Path) -> None:
    nobody = InstanceSet.empty(eleven().image_hw, CELLS)
    convert(coco_with_images(tmp_path / "in", eleven()), tmp_path / "dataset")
    crowd = coco_with_images(tmp_path / "crowd", eleven(instances=nobody, regions=()))
    *_, problem = convert(crowd, tmp_path / "dataset").problems
    assert problem.message.endswith("10 instances, which stay; 1 crowds from here are left out")


def test_a_copy_of_an_image_that_gives_way_is_told(tmp_path: Path) -> None:
    nobody = InstanceSet.empty(eleven().image_hw, CELLS)
    first = coco_with_images(tmp_path / "in", other("a.png"), other("b.png", instances=nobody))
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "a.png").read_bytes())
    done = convert(first, tmp_path / "dataset")
    assert done.num_images == 1
    assert [p.entry for p in done.problems] == ["image b.png"]
    assert "already as a.png" in done.problems[0].message


def test_of_two_entries_of_one_file_the_first_counts(tmp_path: Path) -> None:
    twice = (other("a.png"), other("a.png", image_id=9))
    done = convert(coco_with_images(tmp_path / "in", *twice), tmp_path / "dataset")
    assert [p.message for p in done.problems] == ["1 more entries of it: only the first counts"]
    dataset = Dataset.open(tmp_path / "dataset")
    loaded = dataset.load("a.png")
    assert dataset.save("a.png", loaded.planes, revision=loaded.revision).num_instances == 9


def test_the_source_is_not_written_over_by_a_folder_around_it(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path, other("instances.png"))
    before = first.read_bytes()
    for name in ("coco", "labelme"):
        with pytest.raises(AnnotationError, match="the annotations are read from there"):
            convert(first, tmp_path, format_name=name)
    assert first.read_bytes() == before


def test_an_image_is_not_written_over_by_its_own_masks(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path, other("a.png"))
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(AnnotationError, match="that is the image itself"):
        convert(first, tmp_path / "a.png", overwrites=True)
    assert (tmp_path / "a.png").read_bytes() == before


def test_licences_of_two_files_stay_with_their_images(tmp_path: Path) -> None:
    for name, licence in (("a.png", "CC0"), ("b.png", "all rights reserved")):
        header = {"licenses": [{"id": 1, "name": licence}]}
        image = other(name, image_extra={"license": 1}, document=header)
        folder = tmp_path / name
        source = coco_with_images(folder, image)
        iio.imwrite(folder / name, pixels_for(image, len(licence)))
        convert(source, tmp_path / "dataset")
    convert(tmp_path / "dataset", tmp_path / "out.json")
    out = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    names = {licence["id"]: licence["name"] for licence in out["licenses"]}
    of_images = {image["file_name"]: names[image["license"]] for image in out["images"]}
    assert of_images == {"a.png": "CC0", "b.png": "all rights reserved"}


def test_a_number_without_end_in_an_unknown_key_keeps_no_image_out(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", other("a.png", image_extra={"odd": 17.25}))
    first.write_text(first.read_text(encoding="utf-8").replace("17.25", "1e999"), encoding="utf-8")
    assert convert(first, tmp_path / "dataset").num_images == 1
    (image,) = Dataset.open(tmp_path / "dataset").annotated()
    assert image.image_extra == {"odd": None}


@pytest.mark.parametrize("kind", ["changed", "link"])
def test_an_image_that_is_not_the_one_that_came_in_is_not_exported(
    tmp_path: Path, kind: str
) -> None:
    convert(coco_with_images(tmp_path / "in", other("a.png")), tmp_path / "dataset")
    image = tmp_path / "dataset" / "images" / "a.png"
    secret = tmp_path / "secret"
    secret.write_bytes(image.read_bytes() + (b"x" if kind == "changed" else b""))
    image.unlink()
    if kind == "changed":
        image.write_bytes(secret.read_bytes())
    else:
        image.symlink_to(secret)
    done = convert(tmp_path / "dataset", tmp_path / "coco", format_name="coco")
    assert kind in done.problems[0].message or "bytes, it had" in done.problems[0].message
    assert not (tmp_path / "coco" / "images" / "a.png").exists()


def test_other_programs_are_told_the_split_that_an_image_is_in(tmp_path: Path) -> None:
    dataset = Dataset.create(
        tmp_path / "dataset", categories=CELLS, split=SplitRule(seed="a", val=1.0, test=0.0)
    )
    iio.imwrite(tmp_path / "a.png", pixels_for(eleven()))
    dataset.add_file(tmp_path / "a.png", planes=[replace(eleven(), split=None)])
    convert(dataset.path, tmp_path / "yolo", format_name="yolo")
    assert (tmp_path / "yolo" / "images" / "val" / "a.png").is_file()
    # in a dataset and in COCO only pins are said: the rule goes on elsewhere
    convert(dataset.path, tmp_path / "a.json")
    (image,) = Annotations(tmp_path / "a.json")
    assert image.split is None


def test_what_is_there_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    (tmp_path / "out.json").write_text("mine")
    (tmp_path / "yolo").mkdir()
    (tmp_path / "yolo" / "data.yaml").write_text("mine")
    for target, name in ((tmp_path / "out.json", "coco"), (tmp_path / "yolo", "yolo")):
        with pytest.raises(AnnotationError, match="overwrite"):
            Conversion(Annotations(first), target, format_name=name)
    convert(first, tmp_path / "out.json", overwrites=True)
    assert "annotations" in (tmp_path / "out.json").read_text(encoding="utf-8")
    assert (tmp_path / "yolo" / "data.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b'{"images": [', "no readable JSON"), ('{"é": 1}'.encode("latin-1"), "must be UTF-8")],
)
def test_a_damaged_json_file_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(AnnotationError, match=reason):
        Annotations(tmp_path / "a.json")


def test_numbers_that_json_does_not_know_are_told(tmp_path: Path) -> None:
    first = coco_with_images(tmp_path / "in", eleven())
    text = first.read_text(encoding="utf-8").replace('"score": 0.5', '"score": NaN')
    first.write_text(text, encoding="utf-8")
    annotations = Annotations(first)
    (image,) = annotations
    assert np.isnan(image.instances.scores[0])
    assert "values are NaN, which are no JSON: left out" in str(annotations.problems[0])


def test_an_ome_zarr_folder_is_known_by_images_in_folders(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="the extra ome-zarr is not installed")
    image = replace(eleven(), file_name="plate/day 1/eleven.png")
    first = coco_with_images(tmp_path / "in", image)
    convert(first, tmp_path / "zarr", format_name="ome-zarr")
    assert guess_format(tmp_path / "zarr").name == "ome-zarr"
