"""A file for each object, as the Data Science Bowl 2018 has them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.dataset.formats.exchange import label_array, read_with

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.dataset.formats.label_files import LABELS


def save(path: Path, rows: str, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(label_array(rows) * np.uint8(value)).save(path)


def test_each_file_is_an_object_even_where_they_overlap_or_have_parts(tmp_path: Path) -> None:
    save(tmp_path / "a/images/a.png", "0000/0000")
    save(tmp_path / "a/masks/f00.png", "1100/0001")
    save(tmp_path / "a/masks/b11.png", "0110/0000")
    save(tmp_path / "b/images/b.png", "000")
    save(tmp_path / "b/masks/c22.png", "001")
    assert LABELS.looks_like(tmp_path / "a")
    read, problems = read_with(LABELS, tmp_path)
    assert problems == []
    assert [image.file_name for image in read] == ["a/images/a.png", "b/images/b.png"]
    assert [image.path for image in read] == [tmp_path / image.file_name for image in read]
    assert read[0].instances.boxes_xyxy.tolist() == [[1, 0, 3, 1], [0, 0, 4, 2]]
    assert read[0].instances.areas.tolist() == [2, 3]
    assert set(read[0].instances.states) == {InstanceState.ACCEPTED}
    assert read[1].instances.areas.tolist() == [1]


def test_masks_that_are_called_as_the_image_are_label_images(tmp_path: Path) -> None:
    for name in ("a.png", "a_mask.png"):
        save(tmp_path / name / "images/a.png", "000")
        save(tmp_path / name / "masks" / name, "121", value=1)
        (read,), problems = read_with(LABELS, tmp_path / name)
        assert problems == []
        assert read.instances.handles.tolist() == [1, 2]


def test_files_that_are_no_object_are_told_of(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", "000")
    save(tmp_path / "masks/good.png", "001")
    save(tmp_path / "masks/empty.png", "000")
    save(tmp_path / "masks/small.png", "00")
    (tmp_path / "masks/text.png").write_text("no image")
    (read,), problems = read_with(LABELS, tmp_path)
    assert len(read.instances) == 1
    assert [problem.path.stem for problem in problems] == ["empty", "small", "text"]
    assert "has no pixel" in problems[0].message
    assert "has 1 x 2 pixels" in problems[1].message


def test_folders_that_are_links_out_are_not_read(tmp_path: Path) -> None:
    save(tmp_path / "secret/good.png", "001")
    save(tmp_path / "in/images/a.png", "000")
    (tmp_path / "in/masks").symlink_to(tmp_path / "secret", target_is_directory=True)
    with pytest.raises(AnnotationError, match="no label images"):
        read_with(LABELS, tmp_path / "in")
