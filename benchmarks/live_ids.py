"""Stable ids counted against truth: our tracker and assignment by overlap alone.

``python -m benchmarks.live_ids [--video-only]`` in the root of the repository: synthetic scenes
with spoilt truth (5 % missed, 5 % of low score, masks off by a pixel, 0.3 false ones a frame) at
30, 10 and 3.3 frames a second, then every third frame of the shipped video, with its true masks
and with what the shipped model finds. *too long* counts the objects that come back after more
than `TrackSettings.lost_s`: no tracker that forgets by then can know them.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from tests.live.moving_nuclei import FPS, VIDEO, read_truth

from napari_deeppixel import PredictOptions, load_model
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.live.id_metrics import IdFigures, id_figures
from napari_deeppixel.live.synthetic import SyntheticScene, SyntheticSource
from napari_deeppixel.live.track import Tracker, TrackSettings, mask_iou_matrix

SEEDS = range(6)
NUM_FRAMES = 300
Update = Callable[[InstanceSet, float, InstanceSet], InstanceSet]


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """Frames with their truth, what is shown, what has a low score, and their times."""

    truth: list[InstanceSet]
    shown: list[InstanceSet]
    low: list[InstanceSet]
    times_s: list[float]


class OverlapOnly:
    """The plain way: best overlap with the last masks, which stay for as long as in the tracker."""

    def __init__(self) -> None:
        self._settings = TrackSettings()
        self._masks: dict[int, tuple[CroppedMask, float]] = {}
        self._num_ids = 0

    def update(self, shown: InstanceSet, time_s: float, _low: InstanceSet) -> InstanceSet:
        oldest = time_s - self._settings.lost_s
        known = {i: m for i, (m, seen_s) in self._masks.items() if seen_s >= oldest}
        ids, handles = list(known), np.zeros(len(shown), np.int64)
        ious = mask_iou_matrix(list(known.values()), shown.masks)
        ious[ious < self._settings.min_iou] = 0
        for row, column in zip(*linear_sum_assignment(ious, maximize=True), strict=True):
            if ious[row, column] > 0:
                handles[column] = ids[row]
        for position in np.flatnonzero(handles == 0):
            self._num_ids += 1
            handles[position] = self._num_ids
        for handle, mask in zip(handles.tolist(), shown.masks, strict=True):
            self._masks[handle] = (mask, time_s)
        return replace(shown, handles=handles)


def ours() -> Update:
    tracker = Tracker()
    return lambda shown, time_s, low: tracker.update(shown, time_s, low=low)


def ours_without_low() -> Update:
    tracker = Tracker()
    return lambda shown, time_s, _low: tracker.update(shown, time_s)


TRACKERS: dict[str, Callable[[], Update]] = {
    "ours": ours,
    "ours, no low scores": ours_without_low,
    "overlap only": lambda: OverlapOnly().update,
}


def spoilt(truth: InstanceSet, random: np.random.Generator) -> tuple[InstanceSet, InstanceSet]:
    """Return what a middling model would show of the truth, and what it would score low."""
    shown, low = [], []
    height, width = truth.image_hw
    for mask in truth.masks:
        change: Any = (ndimage.binary_erosion, ndimage.binary_dilation, np.array)
        pixels = change[random.integers(3)](np.pad(mask.pixels, 2))
        y, x = mask.y - 2 + random.integers(-1, 2), mask.x - 2 + random.integers(-1, 2)
        cut = pixels[max(0, -y) : height - y, max(0, -x) : width - x]
        moved = CroppedMask.from_mask(cut, y=max(0, y), x=max(0, x))
        luck = random.random()
        if moved is not None and luck >= 0.05:
            (low if luck < 0.1 else shown).append(moved)
    for _ in range(random.poisson(0.3)):
        radius = int(random.integers(6, 14))
        y, x = random.integers(0, np.array(truth.image_hw) - 2 * radius).tolist()
        disc = np.hypot(*np.mgrid[-radius:radius, -radius:radius]) < radius
        shown.append(CroppedMask.from_mask(disc, y=y, x=x))
    return with_masks(truth, shown), with_masks(truth, low)


def with_masks(like: InstanceSet, masks: Sequence[CroppedMask | None]) -> InstanceSet:
    kept = tuple(mask for mask in masks if mask is not None)
    return InstanceSet(image_hw=like.image_hw, masks=kept, categories=like.categories)


def synthetic_clip(seed: int, every: int) -> Clip:
    source = SyntheticSource(scene=SyntheticScene(seed=seed), is_paced=False)
    numbers = range(0, NUM_FRAMES, every)
    random = np.random.default_rng(seed)
    truth = [source.truth(number) for number in numbers]
    pairs = [spoilt(instances, random) for instances in truth]
    return Clip(
        truth=truth,
        shown=[shown for shown, _ in pairs],
        low=[low for _, low in pairs],
        times_s=[number / FPS for number in numbers],
    )


def video_clips(every: int) -> dict[str, Clip]:
    """Return the shipped video with its true masks, and with what the shipped model finds."""
    truth = read_truth(every=every)
    times_s = [n * every / FPS for n in range(len(truth))]
    nothing = [InstanceSet.empty(t.image_hw, t.categories) for t in truth]
    model, shown, low = load_model("nuclei"), [], []
    with av.open(str(VIDEO)) as container:
        frames = list(container.decode(video=0))[::every]
    for frame in frames:
        pixels: NDArray[Any] = frame.to_ndarray(format="gray")
        candidates = model.predict([pixels[..., None]], PredictOptions())[0].candidates
        is_shown = candidates.scores >= model.spec.score
        shown.append(candidates.select(is_shown))
        low.append(candidates.select(~is_shown))
    return {
        "video, true masks": Clip(truth=truth, shown=truth, low=nothing, times_s=times_s),
        "video, model": Clip(truth=truth, shown=shown, low=low, times_s=times_s),
    }


def num_gone_too_long(clip: Clip) -> int:
    seen_s: dict[int, float] = {}
    count = 0
    for instances, time_s in zip(clip.truth, clip.times_s, strict=True):
        for handle in instances.handles.tolist():
            count += time_s - seen_s.get(handle, time_s) > TrackSettings().lost_s
            seen_s[handle] = time_s
    return count


def report(name: str, clips: list[Clip]) -> None:
    """Print a line for each tracker."""
    too_long = sum(num_gone_too_long(clip) for clip in clips)
    for tracker, make in TRACKERS.items():
        figures: list[IdFigures] = []
        start, num_frames = time.process_time(), sum(len(clip.times_s) for clip in clips)
        for clip in clips:
            update = make()
            rows = zip(clip.shown, clip.times_s, clip.low, strict=True)
            figures.append(id_figures(clip.truth, [update(s, t, low) for s, t, low in rows]))
        cost = time.process_time() - start
        switches, ids = sum(f.num_switches for f in figures), sum(f.num_ids for f in figures)
        misses, false = sum(f.num_misses for f in figures), sum(f.num_false for f in figures)
        fragments = sum(f.num_fragments for f in figures)
        idf1 = float(np.mean([f.idf1 for f in figures]))
        objects = sum(f.num_objects for f in figures)
        print(
            f"{name:24} | {tracker:19} | {switches:5} | {too_long:3} | {idf1:.3f} | {ids:5} | "
            f"{fragments:5} | {misses:4} | {false:4} | {objects:5} | "
            f"{1000 * cost / num_frames:.1f}",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video-only", action="store_true")
    print(
        "clip | ids by | switches | too long | IDF1 | ids | fragments | misses | false | objects | "
        "ms a frame, counting included"
    )
    if not parser.parse_args().video_only:
        for every in (1, 3, 9):
            clips = [synthetic_clip(seed, every) for seed in SEEDS]
            report(f"synthetic, {FPS / every:.1f} fps", clips)
    for name, clip in video_clips(3).items():
        report(name, [clip])


if __name__ == "__main__":
    main()
