"""COCO folders as other programs lay them out."""

from pathlib import Path

import numpy as np
from PIL import Image
from tests.dataset.formats.exchange import read_with
from tests.dataset.made import ELEVEN_HW, eleven

from napari_deeppixel.dataset.annotated import Split
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.dataset.formats.coco_format import COCO

PANOPTIC = "annotations/panoptic_val/x/z.png"


def made_folder(folder: Path, *images: str) -> Path:
    """Make a folder as datumaro exports COCO, with one annotated image, ``x/z.png``."""
    for name in (PANOPTIC, *images):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros(ELEVEN_HW, np.uint8)).save(folder / name)
    image = eleven(file_name="x/z.png", split=None)
    write_coco([image], folder / "annotations/instances_val.json")
    return folder


def test_images_lie_in_the_folder_of_their_split(tmp_path: Path) -> None:
    folder = made_folder(tmp_path, "images/val/x/z.png", "images/train/x/z.png")
    (image,), problems = read_with(COCO, folder)
    assert problems == []
    assert (image.path, image.split) == (folder / "images/val/x/z.png", Split.VAL)


def test_panoptic_label_images_are_never_taken_for_the_image(tmp_path: Path) -> None:
    folder = made_folder(tmp_path)
    for path in (folder, folder / "annotations/instances_val.json"):
        (image,), (problem,) = read_with(COCO, path)
        assert image.path is None
        assert len(image.instances) == 11
        assert "there is no such image" in problem.message
