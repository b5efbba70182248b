"""Fills a dataset until it is killed: ``python fill.py DATASET SEED [STEPS]``.

Prints a line for each step that is over: the image and the uuid that was added to it. Every save
adds an instance to those that are there, so that a save that was lost can be seen.
"""

import json
import random
import sys
import zlib
from dataclasses import replace

import numpy as np

from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.store import Dataset, DatasetConflictError

HW = (20, 40)


def with_one_more(plane: AnnotatedImage, uuid: str) -> AnnotatedImage:
    """Return a plane with another instance: the next pixel that no instance has."""
    number = len(plane.instances)
    mask = CroppedMask(pixels=np.ones((1, 1), np.bool_), y=number // HW[1], x=number % HW[1])
    handle = int(plane.instances.handles.max(initial=0)) + 1
    one = InstanceSet(
        image_hw=HW,
        masks=(mask,),
        categories=plane.categories,
        uuids=(uuid,),
        handles=np.array([handle]),
        states=(InstanceState.DRAWN,),
    )
    return replace(plane, instances=InstanceSet.concatenate([plane.instances, one]))


def add_image(dataset: Dataset, uuid: str, seed: int) -> str:
    """Add an image that nobody else adds, with one instance."""
    pixels = np.random.default_rng(zlib.crc32(uuid.encode())).integers(0, 255, HW, np.uint8)
    nobody = AnnotatedImage.of("x", InstanceSet.empty(HW, dataset.categories))
    # both writers want the same names
    name = f"day {seed % 3}/image"
    plane = with_one_more(nobody, uuid)
    return dataset.add_pixels(pixels, name=name, planes=[plane], group=name).entry.image_id


def save_one_more(dataset: Dataset, uuid: str, chance: random.Random) -> str | None:
    """Add an instance to an image that anybody may be saving at this moment."""
    # few images, so that both want the same one often
    image_id = chance.choice(dataset.entries()[:3]).image_id
    loaded = dataset.load(image_id)
    planes = [with_one_more(loaded.planes[0], uuid)]
    state = chance.choice([None, ImageState.DRAFT, ImageState.COMPLETE])
    try:
        dataset.save(image_id, planes, revision=loaded.revision, state=state)
    except DatasetConflictError:
        return None
    return image_id


def fill(path: str, seed: int, steps: int) -> None:
    dataset, chance = Dataset.open(path), random.Random(seed)
    for step in range(steps):
        uuid = f"{seed}-{step}"
        kind = chance.random()
        if kind < 0.4 or step == 0:
            image_id: str | None = add_image(dataset, uuid, chance.randrange(3))
        elif kind < 0.9:
            image_id = save_one_more(dataset, uuid, chance)
        else:
            name = f"kind {uuid}"
            dataset.merge_categories(dataset.add_category(name).id, 4)
            image_id = None
        if image_id is not None:
            sys.stdout.write(f"{json.dumps([image_id, uuid])}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    fill(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1_000_000)
