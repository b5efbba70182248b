"""Makes the shipped test video and its truth from real nuclei.

``python -m benchmarks.make_moving_nuclei FOLDER`` in the root of the repository, where FOLDER holds
``images/ID.png`` and ``labels/ID.png`` of BBBC038v1 (CC0). Nuclei of two images are cut out, and
moved, turned and stretched over the background of one of them. Writes
``src/napari_deeppixel/samples/moving_nuclei.mp4`` and ``tests/data/moving_nuclei_truth.json``.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from tests.live.moving_nuclei import CATEGORIES, FPS, TRUTH, VIDEO, truth_document

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask

NUCLEI, BACKGROUND = ("449f4171", "6f8197ba"), "6f8197ba"
IMAGE_HW = (512, 512)
NUM_NUCLEI, NUM_FRAMES, SEED = 22, 300, 4
# glow round a nucleus that is cut out with it
RIM_PX = 4
# as in the synthetic source: what shows less of itself is no instance
MIN_VISIBLE = 0.2


@dataclass(frozen=True, kw_only=True, eq=False)
class Nucleus:
    """One nucleus cut out: light above the background, opacity, and its mask, padded alike."""

    light: NDArray[np.float32]
    opacity: NDArray[np.float32]
    mask: NDArray[np.float32]


def read(folder: Path, name: str) -> tuple[NDArray[np.float32], NDArray[Any]]:
    pixels = np.array(Image.open(folder / "images" / f"{name}.png")).astype(np.float32)
    return pixels, np.array(Image.open(folder / "labels" / f"{name}.png"))


def background(folder: Path) -> NDArray[np.float32]:
    """Return the image without its nuclei: smooth light below, noise from the dark places."""
    pixels, labels = read(folder, BACKGROUND)
    dark = ~ndimage.binary_dilation(labels > 0, iterations=18)
    weight = ndimage.gaussian_filter(dark.astype(np.float32), 25)
    smooth = ndimage.gaussian_filter(np.where(dark, pixels, 0), 25) / np.maximum(weight, 1e-6)
    noise = (pixels - smooth)[dark]
    filled = smooth + np.random.default_rng(SEED).choice(noise, pixels.shape)
    return np.where(dark, pixels, filled)[: IMAGE_HW[0], : IMAGE_HW[1]]


def cut_nuclei(folder: Path, name: str) -> list[Nucleus]:
    """Return nuclei that lie whole and alone in an image, largest first."""
    pixels, labels = read(folder, name)
    level = float(np.median(pixels[labels == 0]))
    nuclei = []
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        (y1, y2), (x1, x2) = [(side.start - RIM_PX, side.stop + RIM_PX) for side in window]
        if min(y1, x1) < 0 or y2 > labels.shape[0] or x2 > labels.shape[1]:
            continue
        crop, mask = labels[y1:y2, x1:x2], labels[y1:y2, x1:x2] == number
        rim = ndimage.binary_dilation(mask, iterations=RIM_PX)
        if mask.sum() < 500 or ((crop != number) & (crop > 0) & rim).any():
            continue
        opacity = ndimage.gaussian_filter(
            ndimage.binary_dilation(mask, iterations=2).astype(np.float32), 1.2
        )
        # room to turn and stretch in
        pad = int(0.35 * max(mask.shape))
        nuclei.append(
            Nucleus(
                light=np.pad(np.where(rim, pixels[y1:y2, x1:x2] - level, 0), pad),
                opacity=np.pad(opacity, pad),
                mask=np.pad(mask.astype(np.float32), pad),
            )
        )
    return sorted(nuclei, key=lambda nucleus: -nucleus.mask.sum())


class Motion:
    """Where each nucleus is, how it lies and how it is stretched at a time."""

    def __init__(self, n: int) -> None:
        random = np.random.default_rng(SEED)
        heading, speed = random.uniform(0, 2 * np.pi, n), random.uniform(12, 75, n)
        self._velocity = speed[:, None] * np.stack([np.sin(heading), np.cos(heading)], axis=1)
        self._margin = 28 + np.abs(self._velocity) * random.uniform(0, 0.6, (n, 1))
        self._start = random.uniform(20, np.array(IMAGE_HW) - 20, (n, 2))
        self._wave_px, self._wave_hz = random.uniform(0, 12, (n, 2)), random.uniform(0.1, 0.4, n)
        self._phase = random.uniform(0, 2 * np.pi, n)
        self._turn = random.uniform(0, 2 * np.pi, n)
        self._turn_speed = random.uniform(-0.5, 0.5, n)
        self._scale = random.uniform(0.6, 0.9, n)
        self._stretch, self._stretch_hz = random.uniform(0.02, 0.1, n), random.uniform(0.1, 0.5, n)

    def centres_yx(self, time_s: float) -> NDArray[np.float64]:
        low, high = -self._margin, np.array(IMAGE_HW) + self._margin
        way = (self._start + self._velocity * time_s - low) % (2 * (high - low))
        line = low + np.minimum(way, 2 * (high - low) - way)
        wave = np.sin(2 * np.pi * self._wave_hz * time_s + self._phase)
        centres: NDArray[np.float64] = line + self._wave_px * wave[:, None]
        return centres

    def shape(self, number: int, time_s: float) -> NDArray[np.float64]:
        """Return the matrix (2, 2) from the picture into the cut-out."""
        angle = self._turn[number] + self._turn_speed[number] * time_s
        wave = np.sin(2 * np.pi * self._stretch_hz[number] * time_s + self._phase[number])
        longer = 1 + self._stretch[number] * wave
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix: NDArray[np.float64] = np.diag([1 / longer, longer]) @ turn / self._scale[number]
        return matrix


def paste(
    pixels: NDArray[np.float32],
    owner: NDArray[np.int32],
    nucleus: Nucleus,
    *,
    number: int,
    centre_yx: NDArray[np.float64],
    matrix: NDArray[np.float64],
) -> int:
    """Lay a nucleus over the picture and mark what it covers; return its whole area."""
    side = max(nucleus.mask.shape)
    corner = np.floor(centre_yx - side / 2).astype(int)
    middle = (np.array(nucleus.mask.shape) - 1) / 2
    offset = middle - matrix @ (centre_yx - corner)
    light, opacity, mask = [
        ndimage.affine_transform(part, matrix, offset, (side, side), order=1)
        for part in (nucleus.light, nucleus.opacity, nucleus.mask)
    ]
    low, high = np.maximum(corner, 0), np.minimum(corner + side, IMAGE_HW)
    if (low < high).all():
        there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        here = tuple(slice(a, b) for a, b in zip(low - corner, high - corner, strict=True))
        base = 15.0
        pixels[there] += opacity[here] * (base + light[here] - pixels[there])
        owner[there][mask[here] >= 0.5] = number
    return int((mask >= 0.5).sum())


def visible(owner: NDArray[np.int32], areas: dict[int, int]) -> InstanceSet:
    """Return what each nucleus shows of itself."""
    masks, handles = [], []
    for number, window in enumerate(ndimage.find_objects(owner), start=1):
        if window is None:
            continue
        y, x = window[0].start, window[1].start
        mask = CroppedMask.from_mask(owner[window] == number, y=y, x=x)
        if mask is not None and mask.area >= MIN_VISIBLE * areas[number]:
            masks.append(mask)
            handles.append(number)
    return InstanceSet(
        image_hw=IMAGE_HW, masks=tuple(masks), categories=CATEGORIES, handles=np.array(handles)
    )


def scene(folder: Path) -> Iterator[tuple[NDArray[np.uint8], InstanceSet]]:
    """Yield each picture with its truth."""
    dark = background(folder)
    nuclei = [nucleus for name in NUCLEI for nucleus in cut_nuclei(folder, name)][:NUM_NUCLEI]
    motion = Motion(len(nuclei))
    for frame in range(NUM_FRAMES):
        pixels, owner = dark.copy(), np.zeros(IMAGE_HW, np.int32)
        centres, areas = motion.centres_yx(frame / FPS), {}
        for index, nucleus in enumerate(nuclei):
            areas[index + 1] = paste(
                pixels,
                owner,
                nucleus,
                number=index + 1,
                centre_yx=centres[index],
                matrix=motion.shape(index, frame / FPS),
            )
        yield pixels.round().clip(0, 255).astype(np.uint8), visible(owner, areas)


def main() -> None:
    """Write the video and its truth; print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    truth = []
    with av.open(str(VIDEO), "w", options={"movflags": "faststart"}) as container:
        container.metadata["comment"] = "Made from BBBC038v1, CC0 1.0"
        options = {"crf": "17", "preset": "veryslow"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width = IMAGE_HW
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, FPS)
        for pixels, instances in scene(folder):
            frame = av.VideoFrame.from_ndarray(pixels, format="gray")
            frame.pts, frame.time_base = len(truth), Fraction(1, FPS)
            container.mux(stream.encode(frame))
            truth.append(instances)
        container.mux(stream.encode(None))
    TRUTH.write_text(json.dumps(truth_document(truth), separators=(",", ":")) + "\n")
    for path in (VIDEO, TRUTH):
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
