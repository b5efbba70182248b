import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.live.made_results import made_result

from napari_deeppixel.dataset.annotated import ImageState
from napari_deeppixel.dataset.formats import coco
from napari_deeppixel.dataset.formats.coco import read_coco
from napari_deeppixel.dataset.image_file import read_image
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.live import saved_frame
from napari_deeppixel.live.saved_frame import add_frame, save_frame

SHAPES = [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (5, 7, 6)]
DTYPES = [np.uint8, np.uint16, np.int32, np.float32, np.float16, np.bool_]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_of_every_type_read_back_equal(
    tmp_path: Path, shape: tuple[int, ...], dtype: Any
) -> None:
    pixels = (np.arange(np.prod(shape)).reshape(shape) % 251).astype(dtype)

    saved = save_frame(made_result(0, handles=(), pixels=pixels), tmp_path, source="camera 0")

    read = np.asarray(read_image(saved.image).pixels).reshape(shape)
    expected = pixels.astype(np.uint8) * 255 if dtype is np.bool_ else pixels
    assert np.array_equal(read, expected)
    is_png = dtype in (np.uint8, np.bool_) and shape not in ((5, 7, 2), (5, 7, 6))
    assert saved.image.suffix == (".png" if is_png else ".tif")
    if not is_png:
        with tifffile.TiffFile(saved.image) as file:
            assert len(file.pages) == 1


def test_instances_read_back_equal_and_name_their_image(tmp_path: Path) -> None:
    result = made_result(3, handles=(2, 7), scores=(0.6, 0.8), edges=(0.1, 0.4))

    saved = save_frame(result, tmp_path / "new" / "folder", source="camera 0")

    (image,) = read_coco(saved.annotations)
    assert image.file_name == saved.image.name
    assert image.instances.handles.tolist() == [2, 7]
    assert image.instances.scores.tolist() == [0.6, 0.8]
    assert image.instances.edge_uncertainties.tolist() == [0.1, 0.4]
    for mask, expected in zip(image.instances.masks, result.instances.masks, strict=True):
        assert mask.equals(expected)


def test_the_name_tells_source_and_time(tmp_path: Path) -> None:
    address = "rtsp://me:secret@10.0.0.7/live?channel=1"
    result = made_result(0, grabbed_s=time.monotonic() - 3600)

    saved = save_frame(result, tmp_path, source=address)

    hour_ago = time.strftime("%Y%m%dT%H", time.gmtime(time.time() - 3600))
    pattern = rf"rtsp-10-0-0-7-live-channel-1_{hour_ago}\d{{4}}\.\d{{3}}Z_[0-9a-f]{{12}}\.png"
    assert re.fullmatch(pattern, saved.image.name)
    assert saved.annotations.name == saved.image.stem + "_coco.json"


def test_the_same_pixels_are_saved_once(tmp_path: Path) -> None:
    first = save_frame(made_result(0), tmp_path, source="a")
    later = save_frame(made_result(0, grabbed_s=2000.0), tmp_path, source="b")
    other = save_frame(made_result(1), tmp_path, source="a")

    assert first.is_new
    assert not later.is_new
    assert (later.image, later.annotations) == (first.image, first.annotations)
    assert other.is_new
    assert len(list(tmp_path.iterdir())) == 4


def test_equal_bytes_of_another_shape_are_another_frame(tmp_path: Path) -> None:
    wide = made_result(0, handles=(), pixels=np.zeros((4, 6), np.uint8))
    tall = made_result(0, handles=(), pixels=np.zeros((6, 4), np.uint8))
    save_frame(wide, tmp_path, source="a")
    assert save_frame(tall, tmp_path, source="a").is_new


def test_an_image_whose_instances_could_not_be_written_is_not_taken_for_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(saved_frame, "write_coco", fail)
        with pytest.raises(OSError, match="No space left"):
            save_frame(made_result(0), tmp_path, source="a")
    assert not list(tmp_path.glob("*.json"))

    saved = save_frame(made_result(0), tmp_path, source="a")
    assert saved.is_new
    assert len(read_coco(saved.annotations)) == 1


def test_a_half_written_file_never_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "document_bytes", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_frame(made_result(0), tmp_path, source="a")
    monkeypatch.undo()
    for path in tmp_path.iterdir():
        assert path.suffix == ".png"
        assert read_image(path).pixels.shape == (48, 64, 3)


def test_a_name_without_letters_is_still_a_name(tmp_path: Path) -> None:
    saved = save_frame(made_result(0), tmp_path, source="../../")
    assert saved.image.name.startswith("frame_")
    assert saved.image.parent == tmp_path


def test_frames_of_one_run_come_into_a_dataset_as_drafts_of_one_group(tmp_path: Path) -> None:
    table = made_result(0).instances.categories
    dataset = Dataset.create(tmp_path / "dataset", categories=table)
    results = [
        made_result(number, handles=(2, 7), pixels=np.full((48, 64), number, np.uint16))
        for number in (1, 2)
    ]

    saved = [add_frame(r, dataset, source="camera 0", group="run 1") for r in results]

    assert [each.is_new for each in saved] == [True, True]
    first, second = dataset.entries()
    assert (first.state, first.group, first.num_instances) == (ImageState.DRAFT, "run 1", 2)
    assert first.split == second.split
    assert re.fullmatch(r"camera-0/camera-0_\d{8}T\d{6}\.\d{3}Z\.tif", first.image_id)
    assert read_coco(saved[0].annotations)[0].instances.handles.tolist() == [2, 7]
    assert np.asarray(read_image(saved[0].image).pixels).max() == 1
    # the same pixels again are there already
    assert not add_frame(results[0], dataset, source="camera 0", group="run 2").is_new
