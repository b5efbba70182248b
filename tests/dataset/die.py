"""Dies at each file operation of an action, one after the other: ``python die.py FOLDER ACTION``.

After each death the dataset must open, list and check, with every instance that was in it. Prints
how often it died.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.dataset.folders import faults_of, squares, write_image
from tests.dataset.made import CELLS

from napari_deeppixel.dataset.store import Dataset, FaultKind, Storage

MENDED_BY_HAND = {
    # a rename that did not come to its end leaves the image under both names
    "rename": {FaultKind.DUPLICATE_IMAGE},
    # it was lost before
    "relocate": {FaultKind.MOVED_IMAGE, FaultKind.MISSING_IMAGE},
}


def make(folder: Path) -> Dataset:
    dataset = Dataset.create(folder / "set", categories=CELLS)
    for level in range(3):
        dataset.add_pixels(
            np.full((6, 8), level, np.uint8),
            name=f"day/{level}",
            planes=[squares((0, 0), (2, 2)), squares((0, 0), plane=(1,))],
        )
    far = write_image(folder / "far" / "far.png", 100)
    dataset.add_file(far, storage=Storage.REFERENCE, planes=[squares((4, 4))])
    write_image(folder / "new.png", 50)
    return dataset


def prepare(dataset: Dataset, folder: Path, action: str) -> None:
    if action == "relocate":
        (folder / "moved").mkdir()
        (folder / "far" / "far.png").rename(folder / "moved" / "x.png")
        dataset.image_path("day/1.png").rename(folder / "moved" / "y.png")
    if action == "repair":
        path = dataset.path / "annotations" / "day" / "0.png.json"
        document = json.loads(path.read_text())
        document["annotations"].append({**document["annotations"][0], "id": 99})
        path.write_text(json.dumps(document))
        write_image(dataset.path / "images" / "orphan.png", 77)
        dataset.image_path("day/1.png").rename(dataset.path / "images" / "was 1.png")
        (dataset.path / ".x.999999999.part").touch()


def act(dataset: Dataset, folder: Path, action: str) -> None:
    if action == "add":
        dataset.add_file(folder / "new.png", name="deep/er/new.png", planes=[squares((1, 1))])
    elif action == "add again":
        dataset.add_pixels(np.full((6, 8), 9, np.uint8), name="day/0", planes=[squares((1, 1))])
    elif action == "save":
        loaded = dataset.load("day/0.png")
        dataset.save("day/0.png", loaded.planes, revision=loaded.revision)
    elif action == "remove":
        dataset.remove(["day/0.png", "far.png"])
    elif action == "rename":
        dataset.rename("day/0.png", "other/name.png")
    elif action == "merge":
        dataset.merge_categories(2, 4)
        dataset.merge_categories(4, dataset.add_category("new").id)
    elif action == "relocate":
        dataset.relocate(folder / "moved")
    elif action == "repair":
        dataset.repair(faults_of(dataset))


class Reaper:
    """Ends the process at one of its file operations."""

    def __init__(self, at: int) -> None:
        self._left = at

    def watch(self) -> None:
        for place, name in (
            (os, "fsync"),
            (os, "link"),
            (Path, "rename"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "mkdir"),
        ):
            setattr(place, name, self._watched(getattr(place, name)))

    def _watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def die_or_call(*arguments: Any, **named: Any) -> Any:
            if not self._left:
                os._exit(9)
            self._left -= 1
            return call(*arguments, **named)

        return die_or_call


def uuids(dataset: Dataset) -> set[str]:
    found: set[str] = set()
    for folder in ("annotations", "removed"):
        for path in (dataset.path / folder).rglob("*.json"):
            entries = json.loads(path.read_text())["annotations"]
            found |= {entry["attributes"]["uuid"] for entry in entries}
    return found


def main(folder: Path, action: str) -> None:
    make(folder / "made here")
    # what it refers to is found from the copies alone
    (folder / "made here").rename(folder / "template")
    at, is_dead = 0, True
    while is_dead:
        place = folder / str(at)
        shutil.copytree(folder / "template", place)
        dataset = Dataset.open(place / "set")
        prepare(dataset, place, action)
        before = uuids(dataset)
        child = os.fork()
        if not child:
            Reaper(at).watch()
            act(Dataset.open(dataset.path), place, action)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9), f"it died of {code} at step {at}"
        is_dead = code == 9
        check(Dataset.open(dataset.path), before, action, at)
        # and it can be done again
        if action in ("add", "add again", "save", "repair", "relocate"):
            act(Dataset.open(dataset.path), place, action)
            check(Dataset.open(dataset.path), before, action, at)
        shutil.rmtree(place)
        at += 1
    sys.stdout.write(f"{at - 1}\n")


def check(dataset: Dataset, before: set[str], action: str, at: int) -> None:
    where = f"{action}, step {at}"
    assert all(not entry.problem for entry in dataset.entries()), where
    assert before <= uuids(dataset), where
    dataset.repair(faults_of(dataset))
    faults = faults_of(dataset)
    assert {fault.kind for fault in faults} <= MENDED_BY_HAND.get(action, set()), (
        f"{where}: {faults}"
    )
    assert before <= uuids(dataset), where
    for entry in dataset.entries():
        if entry.image_id not in {fault.image_id for fault in faults}:
            dataset.verify_image(entry.image_id)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
