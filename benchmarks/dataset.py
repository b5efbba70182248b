"""What a large dataset costs.

``python benchmarks/dataset.py [--images 10000] [--instances 300] [--folder DIR]``: annotation files
are written from one template, then listed by processes of their own, without an index and with one.
Memory: how much the peak of the process grew while it listed. *Open, list* is all that the Data tab
waits for.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.store import Dataset

SIDE = 1024
# as the index trusts no file that was written so shortly ago
AGE_S = 10
MEASURE = """
import json, resource, sys, time
from napari_deeppixel.dataset.store import Dataset

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, start = peak_mb(), time.perf_counter()
dataset = Dataset.open(sys.argv[1])
entries = dataset.entries()
first = time.perf_counter() - start
start = time.perf_counter()
dataset.entries()
print(json.dumps({
    "images": len(entries),
    "instances": sum(entry.num_instances for entry in entries),
    "first_s": first,
    "again_s": time.perf_counter() - start,
    "grown_mb": peak_mb() - before,
}))
"""


def make_plane(count: int) -> AnnotatedImage:
    """Return a plane with so many discs of different sizes."""
    table = CategoryTable.from_names("nucleus", "debris")
    random = np.random.default_rng(0)
    masks = []
    for _ in range(count):
        radius = int(random.integers(5, 16))
        y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
        top, left = (int(v) for v in random.integers(0, SIDE - 2 * radius - 1, 2))
        masks.append(CroppedMask(pixels=y**2 + x**2 <= radius**2, y=top, x=left))
    instances = InstanceSet(
        image_hw=(SIDE, SIDE),
        masks=tuple(masks),
        categories=table,
        category_ids=random.integers(1, 3, count),
        scores=random.random(count),
        states=(InstanceState.ACCEPTED,) * count,
        sources=("nuclei@0123456789ab",) * count,
    )
    return AnnotatedImage.of("made.png", instances)


def make_dataset(folder: Path, images: int, instances: int) -> Dataset:
    """Return a dataset of so many images, all but the first as files alone."""
    plane = make_plane(instances)
    dataset = Dataset.create(folder, categories=plane.categories)
    dataset.add_pixels(np.zeros((SIDE, SIDE), np.uint8), name="first", planes=[plane])
    text = (folder / "annotations" / "first.png.json").read_text()
    sha256 = dataset.entry("first.png").sha256
    then = time.time() - AGE_S
    for number in range(1, images):
        path = folder / "annotations" / f"day {number % 10}" / f"image {number}.png.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace(sha256, f"{number:064x}"))
        os.utime(path, (then, then))
    os.utime(folder / "annotations" / "first.png.json", (then, then))
    return dataset


def measured(folder: Path) -> dict[str, Any]:
    """Return what listing costs in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder)], stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def save_ms(dataset: Dataset, rounds: int = 20) -> tuple[float, float]:
    """Return the median milliseconds of a load and of a save."""
    loads, saves = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        loaded = dataset.load("first.png")
        loads.append(time.perf_counter() - start)
        start = time.perf_counter()
        dataset.save("first.png", loaded.planes, revision=loaded.revision)
        saves.append(time.perf_counter() - start)
    return 1000 * float(np.median(loads)), 1000 * float(np.median(saves))


def main() -> None:
    """Print one line for each thing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--instances", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where to make it; default: a temporary folder")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder)) / "set"
    try:
        dataset = make_dataset(folder, arguments.images, arguments.instances)
        size = (folder / "annotations" / "first.png.json").stat().st_size
        print(f"{arguments.images:,} images x {arguments.instances} instances, {size:,} bytes each")
        (folder / "index.jsonl").unlink()
        print("| open, list, s | list again, s | peak memory grows by, MB")
        for what in ("without an index", "with the index"):
            found = measured(folder)
            assert found["images"] == arguments.images
            assert found["instances"] == arguments.images * arguments.instances
            times = f"{found['first_s']:.2f} | {found['again_s']:.2f}"
            print(f"{what} | {times} | {found['grown_mb']:.0f}")
        print(f"index, MB | {(folder / 'index.jsonl').stat().st_size / 1e6:.1f}")
        load, save = save_ms(dataset)
        print(f"load, ms | {load:.1f}")
        print(f"save, ms | {save:.1f}")
    finally:
        shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
