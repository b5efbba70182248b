"""An image is found by the name that annotations give, and never outside its folder."""

from pathlib import Path, PurePosixPath

import pytest

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.image_folder import ImageFolder, is_inside, portable_name, safe_name


@pytest.mark.parametrize(
    "name",
    [
        *("", "  ", ".", "..", "../x.png", "a/../../x.png", "/x.png", "\\x.png", "..\\x.png"),
        *("C:x.png", "c:\\x.png", "\\\\server\\share\\x.png", "a\0.png", "a\n.png", "\ud800.png"),
        *("x" * 256, "ä" * 128, None, 5, ["x.png"]),
    ],
)
def test_a_name_that_leads_out_or_cannot_be_stored_is_refused(name: object) -> None:
    with pytest.raises(AnnotationError):
        safe_name(name)


@pytest.mark.parametrize("name", ["a.png", "day 1/é.tif", "a..b.png", "ab:c.png", "...png"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert safe_name(name) == PurePosixPath(name)


def test_windows_names_are_read_as_paths() -> None:
    assert safe_name("train\\a.png") == PurePosixPath("train/a.png")


@pytest.mark.parametrize(
    ("name", "portable"),
    [
        ("a:b?.png", "a_b_.png"),
        ("con.png", "_con.png"),
        ("a. /x.png", "a/x.png"),
        ("x.png", "x.png"),
    ],
)
def test_a_portable_name_can_be_stored_everywhere(name: str, portable: str) -> None:
    assert portable_name(PurePosixPath(name)) == PurePosixPath(portable)


def touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_an_image_is_found_by_its_path_then_by_its_name_alone(tmp_path: Path) -> None:
    direct = touched(tmp_path / "a.png")
    in_images = touched(tmp_path / "images" / "day" / "b.png")
    deep = touched(tmp_path / "x" / "y" / "c.png")
    folder = ImageFolder(tmp_path)
    assert folder.find("a.png") == direct
    assert folder.find("day/b.png") == in_images
    assert folder.find("elsewhere/C.png") == deep
    assert folder.find("d.png") is None
    assert folder.find_stem("c") == deep


def test_a_name_that_two_images_have_is_neither(tmp_path: Path) -> None:
    touched(tmp_path / "x" / "c.png")
    touched(tmp_path / "y" / "c.png")
    assert ImageFolder(tmp_path).find("c.png") is None
    assert ImageFolder(tmp_path).find("y/c.png") == tmp_path / "y" / "c.png"


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    secret = touched(tmp_path / "secret.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").symlink_to(secret)
    folder = ImageFolder(tmp_path / "images")
    with pytest.raises(AnnotationError, match="link out of"):
        folder.find("a.png")
    assert folder.paths == ()
    assert not is_inside(tmp_path / "images" / "a.png", tmp_path / "images")


def test_hidden_files_and_other_files_are_no_images(tmp_path: Path) -> None:
    touched(tmp_path / "._a.png")
    touched(tmp_path / ".cache" / "b.png")
    touched(tmp_path / "c.txt")
    kept = touched(tmp_path / "d.TIF")
    assert ImageFolder(tmp_path).paths == (kept,)
    assert ImageFolder(tmp_path).relative_name(kept) == "d.TIF"
