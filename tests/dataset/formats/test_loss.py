"""A loss report names what a format cannot hold, by what really comes back."""

import numpy as np
from tests.dataset.made import CELLS, cropped, eleven, eleven_masks

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Format, Holds, ReadBack
from napari_deeppixel.dataset.formats.loss import measure_loss


def made_format(read_back: dict[str, tuple[CroppedMask, ...]], *, renumbered: int = 0) -> Format:
    """Return a format that changes the masks of some of the eleven shapes."""
    masks = tuple(read_back.get(name, (mask,)) for name, mask in eleven_masks().items())
    return Format(
        name="made",
        title="Made",
        note="",
        looks_like=lambda path: path.name == "never",
        read_back=lambda _image: ReadBack(masks=masks, renumbered=renumbered),
        holds=frozenset(Holds),
    )


def test_a_format_that_keeps_all_has_nothing_to_tell() -> None:
    report = measure_loss([eleven()], made_format({}))
    assert report.is_lossless
    assert report.lines() == []
    assert (report.num_images, report.num_instances, report.lowest_iou) == (1, 11, 1.0)


def test_each_kind_of_loss_is_counted_by_itself() -> None:
    shapes = eleven_masks()
    filled = shapes["ring"].pixels.copy()
    filled[5:-5, 5:-5] = True
    parts = shapes["two parts"]
    first_part = CroppedMask.from_mask(parts.pixels[:7], y=parts.y, x=parts.x)
    assert first_part is not None
    under = shapes["under"].to_mask((90, 120)) & ~shapes["over"].to_mask((90, 120))
    line = shapes["line"]
    halves = tuple(
        CroppedMask(pixels=line.pixels[:, part], y=line.y, x=line.x + start)
        for part, start in ((slice(0, 10), 0), (slice(10, 20), 10))
    )
    report = measure_loss(
        [eleven()],
        made_format(
            {
                "ring": (CroppedMask(pixels=filled, y=shapes["ring"].y, x=shapes["ring"].x),),
                "two parts": (first_part,),
                "under": (cropped(under),),
                "one pixel": (),
                "line": halves,
            },
            renumbered=2,
        ),
    )
    assert report.holes_lost == 1
    assert report.parts_lost == 1
    assert report.overlaps_lost == 1
    assert report.instances_lost == 1
    # its pixels are all there, in two objects
    assert report.instances_split == 1
    assert report.instances_changed == 4
    assert report.lowest_iou == 0.0
    assert report.renumbered == 2
    assert not report.is_lossless
    assert report.lines()[0] == ("4 of 11 instances change their pixels (lowest IoU 0.000)")


def test_the_lowest_iou_is_that_of_the_worst_mask() -> None:
    line = eleven_masks()["line"]
    half = CroppedMask(pixels=line.pixels[:, :15], y=line.y, x=line.x)
    assert measure_loss([eleven()], made_format({"line": (half,)})).lowest_iou == 0.75


def test_attributes_that_a_format_has_no_place_for_are_named() -> None:
    bare = Format(name="bare", title="Bare", note="", looks_like=lambda path: path.name == "never")
    report = measure_loss([eleven(), eleven()], bare)
    assert report.lost == {
        "categories": 22,
        "scores": 12,
        "review states": 20,
        "sources": 20,
        "identities (uuids)": 22,
        "numbers of instances": 22,
        "crowd regions": 2,
        "complete regions": 2,
        "states of images": 2,
        "groups of images": 2,
        "splits": 2,
        "fields of other programs": 4,
    }
    assert "no scores (12 have some)" in report.lines()


def test_what_nobody_filled_in_cannot_be_lost() -> None:
    bare = Format(name="bare", title="Bare", note="", looks_like=lambda path: path.name == "never")
    nothing = AnnotatedImage.of("a.png", InstanceSet.empty((3, 4), CELLS))
    assert measure_loss([nothing], bare).is_lossless
    one = InstanceSet(image_hw=(3, 4), masks=(cropped(np.eye(3, 4, dtype=bool)),), categories=CELLS)
    lost = measure_loss([AnnotatedImage.of("a.png", one)], bare).lost
    assert set(lost) == {"categories", "identities (uuids)", "numbers of instances"}
