import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.dataset.formats.exchange import read_or_refuse, read_with, with_pixels, write_with
from tests.dataset.formats.test_polygons import by_cocoapi
from tests.dataset.made import ELEVEN_HW, annotated_images, eleven

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.base import Problem
from napari_deeppixel.dataset.formats.loss import measure_loss
from napari_deeppixel.dataset.formats.yolo import YOLO

few = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
SQUARE = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n"


def made_folder(
    folder: Path, label: str | bytes = SQUARE, data: str | None = "names: [cell]"
) -> Path:
    """Make a folder with one image of 4 x 8 (H, W) for training."""
    for name in ("images/train", "labels/train"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(np.zeros((4, 8), np.uint8)).save(folder / "images/train/a.png")
    text = label if isinstance(label, bytes) else label.encode()
    (folder / "labels/train/a.txt").write_bytes(text)
    if data is not None:
        (folder / "data.yaml").write_text(data)
    return folder


def test_the_eleven_shapes_come_back_exactly(tmp_path: Path) -> None:
    image = with_pixels(eleven(), tmp_path / "images")
    assert write_with(YOLO, [image], tmp_path / "out") == [image]
    (back,), problems = read_with(YOLO, tmp_path / "out")
    assert problems == []
    assert back.file_name == "images/val/day 1/eleven.png"
    assert back.split is Split.VAL
    assert back.state is ImageState.DRAFT
    assert set(back.instances.states) == {InstanceState.ACCEPTED}
    for before, after in zip(image.instances, back.instances, strict=True):
        assert before.mask.equals(after.mask)
        assert image.categories.name_of(before.category_id) == back.categories.name_of(
            after.category_id
        )


def test_lines_are_polygons_that_coco_fills_to_the_masks(tmp_path: Path) -> None:
    write_with(YOLO, [eleven()], tmp_path / "out")
    lines = (tmp_path / "out/labels/val/day 1/eleven.txt").read_text().splitlines()
    height, width = ELEVEN_HW
    for line, mask in zip(lines, eleven().instances.masks, strict=True):
        shares = np.array(line.split()[1:], float).reshape(-1, 2)
        assert 0 <= shares.min() <= shares.max() <= 1
        filled = by_cocoapi([shares * [width, height]], ELEVEN_HW)
        assert np.array_equal(filled, mask.to_mask(ELEVEN_HW))


def test_ultralytics_finds_labels_of_images_that_lay_in_a_folder_called_images(
    tmp_path: Path,
) -> None:
    names = ("images/a.png", "a.png", "day/labels/a.png")
    images = [with_pixels(eleven(file_name=name), tmp_path / "in") for name in names]
    write_with(YOLO, images, tmp_path / "out")
    written = sorted((tmp_path / "out/images").rglob("*.png"))
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == [
        "images/val/a-2.png",
        "images/val/a.png",
        "images/val/day/a.png",
    ]
    for path in written:
        # its own rule: the last "images" of the path becomes "labels"
        label = Path("/labels/".join(str(path).rsplit("/images/", 1))).with_suffix(".txt")
        assert len(label.read_text().splitlines()) == 11
    backs, problems = read_with(YOLO, tmp_path / "out")
    assert problems == []
    assert [len(back.instances) for back in backs] == [11, 11, 11]


def test_the_data_file_names_classes_and_folders(tmp_path: Path) -> None:
    write_with(YOLO, [eleven()], tmp_path / "out")
    assert (tmp_path / "out/data.yaml").read_text() == (
        "train: images/train\nval: images/val\nnames:\n  0: nucleus\n  1: cell body\n"
    )


@few
@given(image=annotated_images())
def test_what_comes_back_is_what_was_told(tmp_path: Path, image: AnnotatedImage) -> None:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    image = with_pixels(image, tmp_path / "images")
    write_with(YOLO, [image], tmp_path / "out")
    (back,), problems = read_with(YOLO, tmp_path / "out")
    assert problems == []
    told = YOLO.read_back(image).masks
    assert [len(masks) for masks in told] == [1] * len(image.instances)
    assert len(back.instances) == len(image.instances)
    for before, (expected,), after in zip(
        image.instances.masks, told, back.instances.masks, strict=True
    ):
        assert before.equals(expected)
        assert before.equals(after)


def test_no_mask_is_lost() -> None:
    report = measure_loss([eleven()], YOLO)
    assert report.instances_changed == 0
    assert "categories" not in report.lost
    assert "scores" in report.lost


def test_images_of_one_name_stay_apart(tmp_path: Path) -> None:
    empty = eleven().instances.select([])
    images = [
        with_pixels(eleven(file_name=name, instances=instances, split=None), tmp_path / "images")
        for name, instances in (("a.png", eleven().instances), ("a.tif", empty))
    ]
    write_with(YOLO, images, tmp_path / "out")
    backs, _ = read_with(YOLO, tmp_path / "out")
    assert {back.file_name: len(back.instances) for back in backs} == {
        "images/train/a.png": 11,
        "images/train/a.tif.tif": 0,
    }


def test_a_plane_of_a_stack_becomes_an_image(tmp_path: Path) -> None:
    import tifffile

    stack = np.arange(3 * 90 * 120, dtype=np.uint16).reshape(3, 90, 120)
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    image = eleven(file_name="s.tif", plane=(2,), path=tmp_path / "s.tif", split=None)
    write_with(YOLO, [image], tmp_path / "out")
    (back,), _ = read_with(YOLO, tmp_path / "out")
    assert back.file_name == "images/train/s-2.tif"
    assert back.path is not None
    assert np.array_equal(tifffile.imread(back.path), stack[2])


def test_a_square_is_read_by_its_corners(tmp_path: Path) -> None:
    (image,), problems = read_with(YOLO, made_folder(tmp_path))
    assert problems == []
    assert image.file_name == "images/train/a.png"
    assert image.split is Split.TRAIN
    assert image.instances.boxes_xyxy.tolist() == [[2, 1, 6, 3]]
    assert image.categories.by_id(1).name == "cell"


def test_an_empty_file_is_an_image_without_objects(tmp_path: Path) -> None:
    (image,), problems = read_with(YOLO, made_folder(tmp_path, ""))
    assert problems == []
    assert len(image.instances) == 0


def test_a_box_alone_is_kept_but_no_instance(tmp_path: Path) -> None:
    folder = made_folder(tmp_path, "0 0.5 0.5 0.25 0.5\n" + SQUARE)
    (image,), (problem,) = read_with(YOLO, folder)
    assert len(image.instances) == 1
    assert image.maskless == ({"category_id": 1, "bbox": [3, 1, 2, 2]},)
    assert problem.entry == "line 1"
    assert problem.path.name == "a.txt"


def test_what_leaves_the_image_is_cut_off_and_told(tmp_path: Path) -> None:
    folder = made_folder(tmp_path, "0 0.5 -1 2 -1 2 0.5 0.5 0.5")
    (image,), (problem,) = read_with(YOLO, folder)
    assert image.instances.boxes_xyxy.tolist() == [[4, 0, 8, 2]]
    assert "cut off" in problem.message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("7 0 0 1 0 1 1", "class 7"),
        ("-1 0 0 1 0 1 1", "class -1"),
        ("0.5 0 0 1 0 1 1", "class 0.5"),
        ("0 0 0 1 0 1", "3 corners"),
        ("0 0 0 1 0 1 1 1", "3 corners"),
        ("0", "3 corners"),
        ("0 a 0 1 0 1 1", "expected numbers"),
        ("0 nan 0 1 0 1 1", "finite"),
        ("0 inf 0 1 0 1 1", "finite"),
        ("0 1e999 0 1 0 1 1", "finite"),
        ("0 0 0 1 1 0 0", "no pixel"),
        ("\x00", "expected numbers"),
    ],
)
def test_a_bad_line_is_named_and_the_others_come_in(
    tmp_path: Path, line: str, expected: str
) -> None:
    (image,), (problem,) = read_with(YOLO, made_folder(tmp_path, f"{line}\n{SQUARE}"))
    assert len(image.instances) == 1
    assert problem.entry == "line 1"
    assert expected in problem.message


def test_a_label_file_without_its_image_is_named(tmp_path: Path) -> None:
    folder = made_folder(tmp_path)
    (folder / "labels/train/b.txt").write_text(SQUARE)
    images, (problem,) = read_with(YOLO, folder)
    assert len(images) == 1
    assert "no image train/b" in problem.message


def test_a_label_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    images, (problem,) = read_with(YOLO, made_folder(tmp_path, SQUARE.encode("utf-16")))
    assert images == []
    assert "UTF-8" in problem.message


@pytest.mark.parametrize(
    "data",
    [
        "names: {0: cell}",
        "names: {'0': cell}",
        "path: /somewhere/else\ntrain: ../train/images\nnames:\n- cell\n",
        "train: [images/train, images/more]\nval: images/train\nnames: [cell]",
        "train: list.txt\nnames: [cell]",
    ],
)
def test_data_files_of_all_kinds_are_read(tmp_path: Path, data: str) -> None:
    folder = made_folder(tmp_path, data=data)
    (folder / "list.txt").write_text("./images/train/a.png\n")
    (image,), problems = read_with(YOLO, folder / "data.yaml")
    assert problems == []
    assert image.categories.by_id(1).name == "cell"
    assert image.split is Split.TRAIN


@pytest.mark.parametrize(
    "data",
    [
        "names: [cell",
        "names: 7",
        "names: []",
        "[1, 2]",
        "",
        "names: !!python/object/apply:builtins.list [[cell]]",
        "a: 2020-99-99\nnames: [x]",
        "[" * 5000,
        "? [a]\n: b",
        "{{a: b}: c}",
    ],
)
def test_a_data_file_that_makes_no_sense_is_refused(tmp_path: Path, data: str) -> None:
    folder = made_folder(tmp_path, data=data)
    with pytest.raises(AnnotationError, match=r"data|names"):
        read_with(YOLO, folder)


def test_odd_names_of_classes_are_told(tmp_path: Path) -> None:
    data = "names: {0: cell, 1: cell, -3: a, x: b, 4: [], 5: ' ', 99999999999: c}"
    (image,), problems = read_with(YOLO, made_folder(tmp_path, data=data))
    assert [c.name for c in image.categories.categories] == ["cell"]
    assert len(problems) == 6


def test_roboflow_s_folders_are_read(tmp_path: Path) -> None:
    made_folder(tmp_path / "made")
    for kind in ("images", "labels"):
        (tmp_path / "set/valid").mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / kind / "train").rename(tmp_path / "set/valid" / kind)
    (tmp_path / "set/data.yaml").write_text("val: ../valid/images\nnames: [cell]")
    (image,), problems = read_with(YOLO, tmp_path / "set")
    assert problems == []
    assert image.split is Split.VAL
    assert len(image.instances) == 1


def test_a_folder_of_labels_alone_is_read(tmp_path: Path) -> None:
    folder = made_folder(tmp_path, SQUARE + SQUARE.replace("0", "3", 1), data=None)
    (image,), problems = read_with(YOLO, folder / "labels", images=folder / "images")
    assert problems == []
    assert [c.name for c in image.categories.categories] == ["object", "class 3"]
    assert image.instances.category_ids.tolist() == [1, 4]


def test_a_folder_of_labels_finds_the_data_file_above(tmp_path: Path) -> None:
    folder = made_folder(tmp_path)
    (image,), _ = read_with(YOLO, folder / "labels" / "train", images=folder / "images" / "train")
    assert image.categories.by_id(1).name == "cell"


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = made_folder(tmp_path / "set")
    (tmp_path / "secret.txt").write_text(SQUARE)
    (folder / "labels/train/a.txt").unlink()
    (folder / "labels/train/a.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(AnnotationError, match="no label files"):
        read_with(YOLO, folder)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/labels").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AnnotationError, match="link"):
        write_with(YOLO, [eleven()], tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_image_that_cannot_be_written_is_told_and_the_others_are(tmp_path: Path) -> None:
    problems: list[Problem] = []
    images = [eleven(file_name="../x.png"), eleven(file_name="good.png")]
    written = write_with(YOLO, images, tmp_path / "out", on_problem=problems.append)
    assert written == images[1:]
    assert [problem.entry for problem in problems] == ["../x.png"]
    (found,) = (tmp_path / "out/labels").rglob("*.txt")
    assert found.name == "good.txt"


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png"])
def test_names_that_lead_out_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(AnnotationError, match="leads out"):
        write_with(YOLO, [eleven(file_name=name)], tmp_path / "out")


def test_what_is_no_yolo_folder_does_not_look_like_one(tmp_path: Path) -> None:
    folder = made_folder(tmp_path / "set")
    assert YOLO.looks_like(folder)
    assert YOLO.looks_like(folder / "data.yaml")
    assert YOLO.looks_like(folder / "labels")
    (folder / "data.yaml").unlink()
    assert YOLO.looks_like(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("hello")
    for path in ("other", "other/notes.txt", "missing", "set/images"):
        assert not YOLO.looks_like(tmp_path / path)


@few
@given(data=st.data())
def test_damaged_files_end_in_an_error_of_ours(tmp_path: Path, data: Any) -> None:
    shutil.rmtree(tmp_path / "set", ignore_errors=True)
    texts = {"labels/train/a.txt": SQUARE, "data.yaml": "train: images/train\nnames: {0: cell}"}
    folder = made_folder(tmp_path / "set")
    name = data.draw(st.sampled_from(list(texts)))
    damaged = bytearray(texts[name].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    (folder / name).write_bytes(bytes(damaged))
    read_or_refuse(YOLO, folder)
    YOLO.looks_like(folder)
