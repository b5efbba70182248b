"""Made label mistakes, and how many of them are found.

``python -m benchmarks.label_mistakes FOLDER [--model nuclei] [--every 2] [--seeds 3]`` in the root
of the repository; FOLDER holds ``instances.json`` (COCO) and its images. True annotations are
spoilt in a known way: 5 % are removed, 3 % added where nothing is, 5 % moved, grown or shrunk,
2 % united with a neighbour, 1 % cut in two. What `find_mistakes` then tells is counted, the worst
first. A listed annotation counts as right if it was spoilt in any way: what matters to a person is
not to look in vain. The true annotations have mistakes of their own, which count as wrong here.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from napari_deeppixel import PredictOptions, load_model
from napari_deeppixel.core.image import PlaneIndex, pick_channels
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask, union_mask
from napari_deeppixel.dataset.formats.coco import read_coco
from napari_deeppixel.dataset.image_file import read_image
from napari_deeppixel.edits.reshape import grown, shrunk, split_by_line
from napari_deeppixel.engine.base import CANDIDATE_SCORE
from napari_deeppixel.training.mistake import Mistake, MistakeKind
from napari_deeppixel.training.mistakes import BELIEVED_SCORE, find_mistakes

REMOVED, ADDED, RESHAPED, UNITED, CUT = 0.05, 0.03, 0.05, 0.02, 0.01
# what a hand does: of the equivalent diameter
MOVE, GROW = (0.25, 0.5), (0.12, 0.25)
CUTS = (20, 50, 100, 200, 400)


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """True annotations of an image, and what a model finds in it."""

    file_name: str
    instances: InstanceSet
    predicted: InstanceSet
    plane: PlaneIndex = ()
    ignored: None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Spoilt:
    """An image whose annotations were spoilt.

    Attributes
    ----------
    removed
        Masks of annotations that are missing now.
    wrong
        uuid → what was done to it.
    """

    image: Image
    removed: list[CroppedMask] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)


class Spoiler:
    """Spoils the annotations of one image, one after the other."""

    def __init__(self, image: Image, rng: np.random.Generator) -> None:
        self._image, self._rng = image, rng
        self._image_hw = image.instances.image_hw
        self._masks = dict(zip(image.instances.uuids, image.instances.masks, strict=True))
        self._spoilt = Spoilt(image=image)
        self._taken = image.instances.label_image() > 0

    def spoil(self) -> Spoilt:
        """Return the image with the mistakes that were made."""
        rng, wrong = self._rng, self._spoilt.wrong
        for uuid in rng.permutation(list(self._masks)).tolist():
            if uuid not in self._masks or uuid in wrong:
                continue
            draw = rng.random()
            for share, spoil in (
                (REMOVED, self._remove),
                (ADDED, self._add),
                (RESHAPED, self._reshape),
                (UNITED, self._unite),
                (CUT, self._cut),
            ):
                if draw < share:
                    spoil(uuid)
                    break
                draw -= share
        instances = InstanceSet(
            image_hw=self._image_hw,
            masks=tuple(self._masks.values()),
            uuids=tuple(self._masks),
            categories=self._image.instances.categories,
        )
        return replace(self._spoilt, image=replace(self._image, instances=instances))

    def _remove(self, uuid: str) -> None:
        self._spoilt.removed.append(self._masks.pop(uuid))

    def _add(self, uuid: str) -> None:
        mask = self._masks[uuid]
        height, width = mask.pixels.shape
        for _ in range(50):
            y = int(self._rng.integers(0, self._image_hw[0] - height + 1))
            x = int(self._rng.integers(0, self._image_hw[1] - width + 1))
            if not self._taken[y : y + height, x : x + width].any():
                new = f"added to {uuid}"
                self._masks[new] = CroppedMask(pixels=mask.pixels, y=y, x=x)
                self._taken[y : y + height, x : x + width] = True
                self._spoilt.wrong[new] = "added"
                return

    def _reshape(self, uuid: str) -> None:
        mask, rng = self._masks[uuid], self._rng
        diameter = np.sqrt(4 * mask.area / np.pi)
        how = str(rng.choice(["moved", "grown", "shrunk"]))
        step = max(2.0, float(rng.uniform(*(MOVE if how == "moved" else GROW))) * diameter)
        if how == "moved":
            angle = rng.uniform(0, 2 * np.pi)
            dy, dx = round(step * np.sin(angle)), round(step * np.cos(angle))
            canvas = ndimage.shift(mask.to_mask(self._image_hw), (dy, dx), order=0)
            new = CroppedMask.from_mask(canvas.astype(np.bool_))
        elif how == "grown":
            new = grown(mask, radius_px=step, image_hw=self._image_hw)
        else:
            new = shrunk(mask, radius_px=step, image_hw=self._image_hw)
        if new is not None and not new.equals(mask):
            self._masks[uuid] = new
            self._spoilt.wrong[uuid] = how

    def _unite(self, uuid: str) -> None:
        mask = self._masks[uuid]
        near = grown(mask, radius_px=3, image_hw=self._image_hw)
        for other, theirs in list(self._masks.items()):
            if other != uuid and other not in self._spoilt.wrong and near.intersection(theirs):
                both = union_mask([mask, theirs])
                assert both is not None
                self._masks[uuid] = both
                del self._masks[other]
                self._spoilt.wrong[uuid] = "united"
                return

    def _cut(self, uuid: str) -> None:
        mask = self._masks[uuid]
        x1, y1, x2, y2 = mask.box_xyxy
        across = [((y1 + y2) / 2, x1 - 2.0), ((y1 + y2) / 2, x2 + 2.0)]
        parts = split_by_line(mask, np.array(across))
        if len(parts) == 2:
            self._masks[uuid] = parts[0]
            self._masks[f"cut from {uuid}"] = parts[1]
            self._spoilt.wrong.update({uuid: "cut", f"cut from {uuid}": "cut"})


def read_images(folder: Path, *, model: str, every: int) -> Iterator[Image]:
    """Yield images of a folder, and what a model finds in them."""
    engine = load_model(model)
    for number, image in enumerate(read_coco(folder / "instances.json")):
        if number % every:
            continue
        path = next(
            p for p in (folder / image.file_name, folder / "images" / image.file_name) if p.exists()
        )
        pixels = pick_channels(read_image(path).plane(image.plane), None)
        (found,) = engine.predict([pixels], PredictOptions(score=CANDIDATE_SCORE))
        yield Image(
            file_name=image.file_name, instances=image.instances, predicted=found.candidates
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What became of the mistakes that were made.

    Attributes
    ----------
    listed
        Mistakes that were told, the worst first, and whether they were made: what was done, or
        empty.
    made
        How many were made of each kind.
    """

    listed: list[tuple[Mistake, str]]
    made: dict[str, int]


def outcome_of(spoilt: Sequence[Spoilt], *, score: float) -> Outcome:
    """Return which of the made mistakes are told."""
    images = [each.image for each in spoilt]
    found = find_mistakes(images, [image.predicted for image in images], score=score)
    by_name = {each.image.file_name: each for each in spoilt}
    made: dict[str, int] = {}
    for each in spoilt:
        for what in [*each.wrong.values(), *("removed" for _ in each.removed)]:
            made[what] = made.get(what, 0) + 1
    listed = []
    for mistake in found:
        each, what = by_name[mistake.file_name], ""
        if mistake.uuid:
            what = each.wrong.get(mistake.uuid, "")
        elif mistake.mask is not None and any(m.iou(mistake.mask) >= 0.5 for m in each.removed):
            what = "removed"
        listed.append((mistake, what))
    return Outcome(listed=listed, made=made)


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print means over the seeds."""
    print("list | of kind | listed | right")
    for kind in (None, *MistakeKind):
        for cut in (*CUTS, None):
            shares, counts = [], []
            for outcome in outcomes:
                of_kind = [w for m, w in outcome.listed if kind in (None, m.kind)]
                if cut is not None and len(of_kind) < cut:
                    continue
                head = of_kind[:cut]
                counts.append(len(head))
                shares.append(sum(map(bool, head)) / max(len(head), 1))
            if len(shares) == len(outcomes):
                name = "all" if cut is None else f"worst {cut}"
                print(f"{name} | {kind or 'any'} | {np.mean(counts):.0f} | {np.mean(shares):.1%}")
    print("what was done | times | told in the worst 100 | in the worst 200 | told at all")
    for what in ("removed", "added", "moved", "grown", "shrunk", "united", "cut"):
        times = float(np.mean([o.made.get(what, 0) for o in outcomes]))
        cells = []
        for cut in (100, 200, None):
            hits = [sum(w == what for _, w in o.listed[:cut]) for o in outcomes]
            cells.append(f"{float(np.mean(hits)) / max(times, 1.0):.1%}")
        print(f"{what} | {times:.0f} | {' | '.join(cells)}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--score", type=float, default=BELIEVED_SCORE)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    images = list(read_images(arguments.folder, model=arguments.model, every=arguments.every))
    num = sum(len(image.instances) for image in images)
    print(f"{len(images)} images, {num:,} annotations, {arguments.seeds} seeds")
    outcomes = []
    for seed in range(arguments.seeds):
        rng = np.random.default_rng(seed)
        outcomes.append(
            outcome_of([Spoiler(image, rng).spoil() for image in images], score=arguments.score)
        )
    print_table(outcomes)


if __name__ == "__main__":
    main()
