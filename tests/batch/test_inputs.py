"""What the names on a command line stand for."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_deeppixel.batch.inputs import (
    find_images,
    image_stem,
    result_stems,
    sample_paths,
)


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def test_folder_stands_for_its_images_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "b.TIF", "a.png", "notes.txt", ".hidden.png", "deeper/c.png")
    found = find_images([str(tmp_path)])
    assert [path.name for path in found.paths] == ["a.png", "b.TIF"]
    assert found.problems == ()


def test_pattern_stands_for_the_images_that_fit(tmp_path: Path) -> None:
    touch(tmp_path, "a1.png", "a2.txt", "b1.png", "deeper/a3.png")
    assert [p.name for p in find_images([f"{tmp_path}/a*"]).paths] == ["a1.png"]
    found = find_images([f"{tmp_path}/**/a*.png"])
    assert [p.name for p in found.paths] == ["a1.png", "a3.png"]


def test_file_with_brackets_is_a_file(tmp_path: Path) -> None:
    (path,) = touch(tmp_path, "cells[1].png")
    assert find_images([str(path)]).paths == (path,)


def test_named_file_is_kept_even_if_missing_or_odd(tmp_path: Path) -> None:
    found = find_images([str(tmp_path / "none.png"), str(tmp_path / "notes.txt")])
    assert [path.name for path in found.paths] == ["none.png", "notes.txt"]


def test_image_that_is_named_twice_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "b.png")
    monkeypatch.chdir(tmp_path)
    found = find_images(["b.png", str(tmp_path), "a.png", f".{os.sep}b.png"])
    assert [path.name for path in found.paths] == ["b.png", "a.png"]


def test_nothing_found_is_a_problem_with_a_reason(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    found = find_images([str(tmp_path), f"{tmp_path}/*.png"])
    assert found.paths == ()
    assert [reason for _, reason in found.problems] == [
        "the folder holds no image",
        "no image fits this pattern",
    ]


def test_results_beside_their_image_are_left_out_of_a_folder(tmp_path: Path) -> None:
    images = touch(tmp_path, "a.png", "b.tif", "c_labels.tif", "d.png", "d.jpg")
    results = touch(
        tmp_path,
        "a_labels.tif",
        "a_overlay.png",
        "b_overlay_t0003.png",
        "b_overlay_t0003_z0000.png",
        "d_png_overlay.png",
    )
    found = find_images([str(tmp_path)])
    assert sorted(found.paths) == sorted(images)
    assert sorted(found.left_out) == sorted(results)
    # named outright, it is meant
    assert find_images([str(results[0])]).paths == (results[0],)


def test_stem_is_the_name_without_its_ending() -> None:
    stems = [image_stem(Path(name)) for name in ("a.png", "b.ome.tif", "c.v2.tif", ".ome.tif")]
    assert stems == ["a", "b", "c.v2", ".ome"]


@pytest.mark.parametrize(
    ("paths", "stems"),
    [
        (("x/a.png", "x/b.png"), ("a", "b")),
        (("x/a.png", "x/a.tif"), ("a_png", "a_tif")),
        (("x/a.png", "y/a.png"), ("x_a", "y_a")),
        (("x/a.png", "x/a.tif", "y/a.png"), ("x_a_png", "x_a_tif", "y_a_png")),
        (("p/x/a.png", "q/x/a.png"), ("a_1", "a_2")),
        (("x/a.png", "x/A.tif"), ("a_png", "A_tif")),
        (("x/a.png", "x/a.tif", "z/a_png.png"), ("x_a_png", "x_a_tif", "a_png")),
    ],
)
def test_images_of_one_name_get_results_of_different_names(
    tmp_path: Path, paths: tuple[str, ...], stems: tuple[str, ...]
) -> None:
    full = [tmp_path / path for path in paths]
    found = result_stems(full)
    assert len({stem.casefold() for stem in found.values()}) == len(paths)
    assert [found[path] for path in full] == list(stems)
    assert result_stems(full[::-1]) == found


NAMES = st.sampled_from(["a", "A", "a_1", "a_png", "x_a", "b"])
PATHS = st.builds(
    lambda outer, inner, name, ending: Path("/", outer, inner, f"{name}.{ending}"),
    st.sampled_from("xy"),
    st.sampled_from("xy"),
    NAMES,
    st.sampled_from(["png", "tif", "PNG"]),
)


@given(st.sets(PATHS, min_size=1, max_size=8))
def test_no_two_images_ever_share_results(paths: set[Path]) -> None:
    stems = result_stems(paths)
    assert stems.keys() == paths
    assert len({stem.casefold() for stem in stems.values()}) == len(paths)


def test_samples_are_there() -> None:
    assert [path.is_file() for path in sample_paths()] == [True] * 4
