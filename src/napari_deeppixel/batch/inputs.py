"""Which image files a person means, how their results are called, and the samples."""

import glob
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from napari_deeppixel.dataset.image_folder import IMAGE_SUFFIXES

SAMPLE_NAMES = ("fluorescence", "tissue", "histology", "brightfield")

_RESULT_NAME = re.compile(r"(?P<stem>.+)_(labels\.tif|overlay(_[a-z]\d{4,})*\.png)")


@dataclass(frozen=True, kw_only=True)
class FoundImages:
    """What file names, folders and patterns stand for.

    Attributes
    ----------
    paths
        Files to read, each once: those named outright even if they are missing, and the images
        in folders and patterns, by name.
    problems
        Arguments that stand for no image, with the reason.
    left_out
        Results of an earlier run beside their image, in a folder or pattern.
    """

    paths: tuple[Path, ...]
    problems: tuple[tuple[str, str], ...]
    left_out: tuple[Path, ...]


def find_images(arguments: Sequence[str]) -> FoundImages:
    """Return the image files that arguments (files, folders, patterns) stand for."""
    paths: dict[Path, Path] = {}
    problems: list[tuple[str, str]] = []
    left_out: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            # files such as ._cells.png are macOS's notes, not images
            inside = [p for p in path.iterdir() if not p.name.startswith(".")]
            problem = "the folder holds no image"
        elif not path.exists() and glob.has_magic(argument):
            inside = [Path(match) for match in glob.glob(argument, recursive=True)]
            problem = "no image fits this pattern"
        else:
            paths.setdefault(path.resolve(), path)
            continue
        images, results = _without_results(sorted(p for p in inside if _is_image(p)))
        left_out += results
        if not images:
            problems.append((argument, problem))
        for image in images:
            paths.setdefault(image.resolve(), image)
    return FoundImages(
        paths=tuple(paths.values()), problems=tuple(problems), left_out=tuple(left_out)
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _without_results(images: list[Path]) -> tuple[list[Path], list[Path]]:
    known = {(image.parent, way(image)) for image in images for way in _WAYS}
    results = []
    for image in images:
        match = _RESULT_NAME.fullmatch(image.name)
        if match and (image.parent, match["stem"]) in known:
            results.append(image)
    return [image for image in images if image not in results], results


def image_stem(path: Path) -> str:
    """Return a file's name without its ending; ``cells.ome.tif`` is ``cells``."""
    stem = path.stem
    return stem[:-4] if stem.lower().endswith(".ome") and len(stem) > 4 else stem


def _stem_and_ending(path: Path) -> str:
    return f"{image_stem(path)}_{path.suffix[1:].lower()}"


def _folder_and_stem(path: Path) -> str:
    return f"{path.resolve().parent.name}_{image_stem(path)}"


def _folder_stem_and_ending(path: Path) -> str:
    return f"{path.resolve().parent.name}_{_stem_and_ending(path)}"


# how the results of an image may be called, tried in this order
_WAYS = (image_stem, _stem_and_ending, _folder_and_stem, _folder_stem_and_ending)


def result_stems(paths: Iterable[Path]) -> dict[Path, str]:
    """Return a name for the results of each image; no two are alike, in upper or lower case.

    Usually the file's own stem. Images that share one get their ending (``cells_png``), else their
    folder (``day1_cells``), else both, else a number, in the order of their paths: the order of
    the arguments changes nothing.
    """
    paths = sorted(set(paths))
    stems = {path: image_stem(path) for path in paths}
    for alike in _groups(stems):
        rest = {stem.casefold() for path, stem in stems.items() if path not in alike}
        for way in _WAYS[1:]:
            names = [way(path) for path in alike]
            folded = {name.casefold() for name in names}
            if len(folded) == len(alike) and not folded & rest:
                break
        else:
            names = _numbered(alike, rest)
        stems.update(zip(alike, names, strict=True))
    return stems


def _groups(stems: dict[Path, str]) -> list[list[Path]]:
    counts = Counter(stem.casefold() for stem in stems.values())
    return [
        [path for path, stem in stems.items() if stem.casefold() == folded]
        for folded, count in sorted(counts.items())
        if count > 1
    ]


def _numbered(paths: list[Path], taken: set[str]) -> list[str]:
    names: list[str] = []
    number = 0
    for path in paths:
        name = ""
        while not name or name.casefold() in taken:
            number += 1
            name = f"{image_stem(path)}_{number}"
        names.append(name)
    return names


def sample_paths() -> tuple[Path, ...]:
    """Return the sample images that come with the package (`samples/README.md`)."""
    folder = resources.files("napari_deeppixel") / "samples"
    return tuple(Path(str(folder / f"{name}.png")) for name in SAMPLE_NAMES)


def sample_video() -> Path:
    """Return the sample video that comes with the package (`samples/README.md`)."""
    return Path(str(resources.files("napari_deeppixel") / "samples" / "moving_nuclei.mp4"))
