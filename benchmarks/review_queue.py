"""What share of a model's errors the review queue puts in front, against other orders.

``python benchmarks/review_queue.py FOLDER [--images 20] [--model nuclei]``: the folder holds
``instances.json`` (COCO) and its images. An error is a prediction whose mask has no true partner,
or one with an IoU below 0.7. For each order, the share of all errors in the first fifth of each
image's queue, and of one queue over all images. *Perfect* is what no order can beat: there are more
errors than places.
"""

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.image import as_image_array
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.coco import read_coco
from napari_deeppixel.edits.neighbours import shared_pixels, touching_boxes
from napari_deeppixel.edits.queue import QueueOrder, review_queue
from napari_deeppixel.engine.base import Engine, PredictOptions
from napari_deeppixel.engine.weights import load_model

SHARE = 0.2
GOOD_IOU = 0.7


def partner_ious(truth: InstanceSet, found: InstanceSet) -> NDArray[np.float64]:
    """Return each prediction's IoU (N,) with its own true object, best pairs first; 0: none."""
    pairs = touching_boxes(found.boxes_xyxy, truth.boxes_xyxy)
    both = shared_pixels(found.masks, truth.masks, pairs)
    ious = both / (found.areas[pairs[:, 0]] + truth.areas[pairs[:, 1]] - both)
    partners, taken = np.zeros(len(found)), set()
    for n in np.argsort(-ious, kind="stable"):
        i, j = pairs[n].tolist()
        if partners[i] == 0 and j not in taken:
            partners[i] = ious[n]
            taken.add(j)
    return partners


def predict(
    engine: Engine, folder: Path, images: Sequence[AnnotatedImage]
) -> dict[tuple[int, ...], InstanceSet]:
    """Return all candidates of each image, by its place."""
    found: dict[tuple[int, ...], InstanceSet] = {}
    for n, image in enumerate(images):
        pixels = as_image_array(iio.imread(folder / image.file_name), name=image.file_name)
        found[(n,)] = engine.predict([pixels.plane()], PredictOptions())[0].candidates
    return found


def caught(queue: Sequence[str], errors: set[str]) -> int:
    """Return how many errors the first fifth of a queue holds."""
    return len(errors & set(queue[: round(SHARE * len(queue))]))


def print_order(name: str, queues: Sequence[Sequence[str]], errors: set[str]) -> None:
    """Print the share of errors in front for one order."""
    one_by_one = sum(caught(queue, errors) for queue in queues[:-1])
    print(
        f"{name} | {one_by_one / len(errors):.1%} | {caught(queues[-1], errors) / len(errors):.1%}"
    )


def main() -> None:
    """Print one line for each order, and what the queue gave as reasons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--model", default="nuclei")
    options = parser.parse_args()
    images = list(read_coco(options.folder / "instances.json"))
    images = random.Random(0).sample(images, min(options.images, len(images)))
    engine = load_model(options.model)
    candidates = predict(engine, options.folder, images)
    visible = {n: c.above_score(engine.spec.score) for n, c in candidates.items()}
    ious = {
        uuid: iou
        for (n,), shown in visible.items()
        for uuid, iou in zip(shown.uuids, partner_ious(images[n].instances, shown), strict=True)
    }
    scores = {u: s for v in visible.values() for u, s in zip(v.uuids, v.scores, strict=True)}
    errors = {uuid for uuid, iou in ious.items() if iou < GOOD_IOU}
    planes = [*({n: v} for n, v in visible.items()), visible]
    items = [review_queue(p, QueueOrder.UNCERTAIN, candidates=candidates) for p in planes]
    ours = [[item.uuid for item in queue] for queue in items]
    has_edges = any(np.isfinite(v.edge_uncertainties).any() for v in visible.values())
    print(
        f"{len(images)} images, {len(ious)} predictions, {len(errors)} errors; "
        f"{'with' if has_edges else 'without'} edge uncertainties"
    )
    print("order | image by image | all images at once")
    shuffled = [random.Random(1).sample(queue, len(queue)) for queue in ours]
    print_order("random", shuffled, errors)
    print_order("lowest score first", [sorted(q, key=scores.__getitem__) for q in ours], errors)
    print_order("review queue", ours, errors)
    print_order("perfect", [sorted(q, key=ious.__getitem__) for q in ours], errors)
    front = items[-1][: round(SHARE * len(items[-1]))]
    reasons = Counter(item.reason.split()[0] for item in front)
    wrong = Counter(item.reason.split()[0] for item in front if item.uuid in errors)
    for word, count in reasons.most_common():
        print(f"  reason '{word} …': {count}, of them {wrong[word]} errors")


if __name__ == "__main__":
    main()
