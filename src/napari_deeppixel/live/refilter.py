"""A result at another score: the model has found more than what is shown."""

from dataclasses import replace

import numpy as np

from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.track import Tracker


def refiltered(
    result: LiveResult, tracker: Tracker, *, score: float, min_area: int = 1
) -> LiveResult:
    """Return a result with the instances from a score and an area in pixels on.

    No model is asked. What belongs to a track keeps its id; what is shown for the first time
    begins a track, so that the next frame finds it again. The same result comes back where
    nothing changes, or nobody kept what was found.

    Parameters
    ----------
    result
        Of the pipeline that the tracker belongs to, or of this function.
    tracker
        `LivePipeline.tracker`.
    score
        Lowest score (0 to 1) to show.
    min_area
        Smallest instance to show, in pixels.
    """
    prediction = result.prediction
    if prediction is None:
        return result
    candidates = prediction.candidates
    is_shown = (candidates.scores >= score) & (candidates.areas >= min_area)
    if np.array_equal(candidates.handles[is_shown], result.instances.handles):
        return result
    candidates = tracker.adopt(candidates, result.frame.grabbed_s, is_shown=is_shown)
    return replace(
        result,
        instances=candidates.select(is_shown),
        prediction=replace(prediction, candidates=candidates),
    )
