"""What a person should know about images before training on them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from napari_deeppixel.core.words import counted, listed
from napari_deeppixel.dataset.annotated import Split

# two images with 142 objects made a model better that had learnt the like of them before
# (measured on brightfield nuclei); of fewer than this nobody has seen it
_FEW_OBJECTS = 50


@dataclass(kw_only=True)
class Findings:
    """What was found on the way, beside the counts.

    Attributes
    ----------
    is_dataset
        Whether images have states and splits that a person can change.
    num_unreadable
        Images whose annotations cannot be read.
    num_without_file
        Images whose file is missing, or not the one that came in.
    num_unusable
        Annotations without a mask, or of a category that nobody knows.
    num_in_two_splits
        Image contents that are in more than one split.
    num_left_out, num_unreviewed
        Images that are not used, and objects that no person looked at.
    """

    is_dataset: bool
    num_unreadable: int = 0
    num_without_file: int = 0
    num_unusable: int = 0
    num_in_two_splits: int = 0
    num_left_out: int = 0
    num_unreviewed: int = 0


def warnings_of(
    images: Mapping[str, int], objects: Mapping[str, Mapping[str, int]], findings: Findings
) -> tuple[str, ...]:
    """Return the warnings, the gravest first.

    Parameters
    ----------
    images
        Split → images.
    objects
        Category name → split → objects.
    findings
        What else was found.
    """
    return (
        *_of_splits(images, is_dataset=findings.is_dataset),
        *_of_objects(objects),
        *_of_findings(findings),
    )


def _of_splits(images: Mapping[str, int], *, is_dataset: bool) -> Iterator[str]:
    how = "mark images complete, or pin some to it" if is_dataset else "add some"
    if not images[Split.TRAIN]:
        yield f"No image is in train, so there is nothing to learn from: {how}."
    elif images[Split.TRAIN] == 1:
        yield "One image alone is in train: the model will know little but this image."
    if not images[Split.VAL]:
        yield (
            "No image is in val, so nobody can say whether the model gets better, or which weights "
            f"are best: {how}."
        )
    elif images[Split.VAL] == 1:
        yield "One image alone is in val: figures on it say little about others."


def _of_objects(objects: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    counts = {name: by_split[Split.TRAIN] for name, by_split in objects.items()}
    missing = [name for name, count in counts.items() if not count]
    if missing:
        yield f"No object of {listed(missing)} is in train: it cannot be learnt."
    few = [f"{name} ({count})" for name, count in counts.items() if 0 < count < _FEW_OBJECTS]
    if few:
        yield f"Few objects in train: {listed(few)}; annotate {_FEW_OBJECTS} or more of each."
    unseen = [name for name, count in counts.items() if count and not objects[name][Split.VAL]]
    if unseen and any(by_split[Split.VAL] for by_split in objects.values()):
        yield f"No object of {listed(unseen)} is in val: figures say nothing about it."


def _of_findings(found: Findings) -> Iterator[str]:
    if found.num_in_two_splits:
        yield (
            f"In more than one split: {counted(found.num_in_two_splits, 'image')}, so that figures "
            "on val look better than they are. Keep each in one."
        )
    if found.num_unreadable:
        yield f"Unreadable annotations: of {counted(found.num_unreadable, 'image')}{_check(found)}."
    if found.num_without_file:
        yield f"Missing or changed: {counted(found.num_without_file, 'image file')}{_check(found)}."
    if found.num_unusable:
        yield (
            "Not learnt, being without a mask or a known category: "
            f"{counted(found.num_unusable, 'annotation')}{_check(found)}."
        )
    if found.num_left_out:
        yield (
            "Left out, being neither complete nor with a complete region: "
            f"{counted(found.num_left_out, 'image')}. Mark what is finished."
        )
    if found.num_unreviewed:
        yield (
            f"Made by a model and reviewed by nobody: {counted(found.num_unreviewed, 'object')}. "
            "These count half."
        )


def _check(found: Findings) -> str:
    return "; `napari-deeppixel check` says more" if found.is_dataset else ""
