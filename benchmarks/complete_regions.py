"""What complete regions are worth: objects un-annotated in a part of each image, with and without.

``python benchmarks/complete_regions.py DATA [--from nuclei] [--iterations 60]``: DATA holds
``train`` and ``val``, each with ``instances.json`` (COCO) and its images. Of some training images
every object that has no pixel in the left part (half, or ``--annotated``) loses its annotation. The
same network is trained alike on all annotations, on these, and on these with the left parts marked
complete; a line each gives mask AP on the same validation images, and how many objects were found.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.coco import read_coco, write_coco
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.engine.weights import load_model
from napari_deeppixel.training.augment import Augmentation
from napari_deeppixel.training.evaluate import figures_of
from napari_deeppixel.training.fit import fit
from napari_deeppixel.training.options import FitOptions
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.training.samples import Sample, common_categories, read_split
from napari_deeppixel.training.start import starting_point

MAX_SIDE = 360
MIN_OBJECTS = 20
SURE = 0.8
VARIANTS = ("all", "with", "without")


def chosen_images(split: Path, number: int) -> list[AnnotatedImage]:
    """Return small images with many objects, every so many of the split, as drawn by a person."""
    fitting = [
        replace(image, instances=replace(image.instances, states=_drawn(image)))
        for image in read_coco(split / "instances.json")
        if max(image.image_hw) <= MAX_SIDE and len(image.instances) >= MIN_OBJECTS
    ]
    return fitting[:: max(1, len(fitting) // number)][:number]


def _drawn(image: AnnotatedImage) -> tuple[InstanceState, ...]:
    return (InstanceState.DRAWN,) * len(image.instances)


def left_part(image: AnnotatedImage, share: float, *, has_region: bool) -> AnnotatedImage:
    """Return an image with the objects of its left part alone."""
    height, width = (float(side) for side in image.image_hw)
    middle = float(round(width * share))
    kept = image.instances.boxes_xyxy[:, 0] < middle
    region = ((0.0, 0.0), (middle, 0.0), (middle, height), (0.0, height))
    return replace(
        image,
        instances=image.instances.select(np.array(kept)),
        regions=(region,) if has_region else (),
    )


def samples_of(
    images: Iterable[AnnotatedImage], split: Path, folder: Path, engine: MaskRCNNEngine
) -> list[Sample]:
    """Return the images as `train` reads them from a folder."""
    folder.mkdir()
    images = list(images)
    for image in images:
        path = split / image.file_name
        path = path if path.exists() else split / "images" / Path(image.file_name).name
        (folder / image.file_name).parent.mkdir(parents=True, exist_ok=True)
        (folder / image.file_name).symlink_to(path.resolve())
    write_coco(images, folder / "instances.json")
    return read_split(folder, engine.spec.normalization)


def line(name: str, engine: MaskRCNNEngine, val: list[Sample]) -> str:
    """Return the figures of a network on validation images."""
    options = PredictOptions()
    found = [engine.predict([sample.pixels], options)[0].candidates for sample in val]
    figures = figures_of(val, found, engine.spec.score)
    shown, sure = (
        sum(len(instances.above_score(score)) for instances in found)
        for score in (engine.spec.score, SURE)
    )
    return (
        f"{name:36} | AP {figures.ap:.3f} | AP50 {figures.ap50:.3f} | accuracy at IoU 0.5 "
        f"{figures.accuracy50:.3f} | found {shown}, at score {SURE} {sure}, of "
        f"{figures.num_objects}"
    )


def trained(
    train: list[Sample],
    weights: str | None,
    folder: Path,
    *,
    iterations: int,
    learning_rate: float,
) -> MaskRCNNEngine:
    """Return a network trained on samples; the same steps for all of them."""
    options = FitOptions(
        iterations=iterations,
        batch_size=4,
        learning_rate=learning_rate,
        warm_up=10,
        train_batch_norm=weights is None,
        evaluate_every=iterations,
        workers=0,
        augmentation=Augmentation(crop=192),
    )
    start = starting_point(weights, common_categories(train), name="regions")
    run = RunFolder(folder)
    for _ in fit(start, train, [], run=run, options=options):
        pass
    return load_model(run.best, device="cpu")


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--from", dest="weights", default="nuclei", help="'none': random weights")
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--train", type=int, default=24)
    parser.add_argument("--val", type=int, default=16)
    parser.add_argument("--annotated", type=float, default=0.5, help="share of each image")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="to spread over processes"
    )
    arguments = parser.parse_args()
    weights = None if arguments.weights == "none" else arguments.weights
    torch.set_num_threads(1)
    base = load_model(weights or "nuclei", device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder, split = Path(name), arguments.data / "train"
        validation = chosen_images(arguments.data / "val", arguments.val)
        val = samples_of(validation, arguments.data / "val", folder / "val", base)
        images = chosen_images(split, arguments.train)
        bare = [left_part(image, arguments.annotated, has_region=False) for image in images]
        marked = [left_part(image, arguments.annotated, has_region=True) for image in images]
        print(
            f"{len(images)} images, {sum(len(i.instances) for i in images)} objects, of which "
            f"{sum(len(i.instances) for i in bare)} stay annotated; {arguments.iterations} steps",
            flush=True,
        )
        if weights:
            print(line("before", base, val), flush=True)
        variants = {
            "all": ("all annotations", images),
            "with": ("partly un-annotated, with regions", marked),
            "without": ("partly un-annotated, without regions", bare),
        }
        for number, (title, chosen) in enumerate(variants[v] for v in arguments.variants):
            began = time.process_time()
            train = samples_of(chosen, split, folder / f"train {number}", base)
            engine = trained(
                train,
                weights,
                folder / f"run {number}",
                iterations=arguments.iterations,
                learning_rate=arguments.learning_rate,
            )
            seconds = time.process_time() - began
            print(f"{line(title, engine, val)} | {seconds:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
