"""An engine over the planes of an image, and the one-call `segment`."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_deeppixel.core.errors import ImageError
from napari_deeppixel.core.image import ImageArray, PlaneIndex, as_image_array, pick_channels
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import (
    BoxPrompter,
    Engine,
    EngineKind,
    InstanceCapWarning,
    Prediction,
    PredictOptions,
    cap_message,
)
from napari_deeppixel.engine.catalogue import DEFAULT_MODEL
from napari_deeppixel.engine.prompt import RegionPrompter
from napari_deeppixel.engine.weights import load_model

# a larger plane is not read whole for the sake of a region's contrast
_MAX_LIMIT_PIXELS = 1 << 28


def predict_planes(
    image: Any,
    engine: Engine,
    options: PredictOptions,
    *,
    indices: Iterable[PlaneIndex] | None = None,
    region_xyxy: tuple[int, int, int, int] | None = None,
    cancel: CancelToken | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[tuple[PlaneIndex, Prediction]]:
    """Yield the lead index and the prediction of one plane after the other.

    Planes are read only when it is their turn; where that makes it faster, a few at a time.

    Parameters
    ----------
    image
        An `ImageArray`, or an array whose axes are guessed: the last two (three with RGB) are
        planes.
    engine, options
        What predicts, and how.
    indices
        Lead indices of the planes; None: all.
    region_xyxy
        Part of each plane to predict on; instances come back in the whole plane.
    cancel, on_progress
        `cancel` is looked at before each plane and before each layer of the network.

    Raises
    ------
    RunCancelled
        If `cancel` was set.
    ImageError
        If a plane cannot be read.
    """
    image = as_image_array(image)
    wanted = list(image.plane_indices() if indices is None else indices)
    cancel = cancel or CancelToken()
    done = 0
    while done < len(wanted):
        cancel.raise_if_cancelled()
        fitted, num_planes = options, 1
        if region_xyxy is None:
            num_planes = engine.planes_at_once(image.image_hw, options)
        else:
            # each plane has its own contrast, so its own options
            fitted = _with_limits_of_plane(options, engine, image, wanted[done])
        planes = _read(image, wanted[done : done + num_planes], region_xyxy, cancel)
        report = partial(_report, on_progress, done, len(planes), len(wanted))
        report(Progress(fraction=0.0))
        predictions = engine.predict(planes, fitted, cancel=cancel, on_progress=report)
        # the next ones are read while whoever takes these still has the memory
        del planes
        for prediction in predictions:
            cancel.raise_if_cancelled()
            if region_xyxy is not None:
                prediction = prediction.moved(
                    dy=region_xyxy[1], dx=region_xyxy[0], image_hw=image.image_hw
                )
            yield wanted[done], prediction
            done += 1


def _read(
    image: ImageArray,
    indices: Sequence[PlaneIndex],
    region_xyxy: tuple[int, int, int, int] | None,
    cancel: CancelToken,
) -> list[NDArray[Any]]:
    """Return the planes up to the first that cannot be read; if that is the first one, raise."""
    planes: list[NDArray[Any]] = []
    for index in indices:
        cancel.raise_if_cancelled()
        try:
            planes.append(image.plane(index, region_xyxy=region_xyxy))
        except Exception:
            # it raises again when it is its turn, after the results of those before it
            if not planes:
                raise
            break
    return planes


def _report(
    on_progress: Callable[[Progress], None] | None,
    done: int,
    num_planes: int,
    total: int,
    inside: Progress,
) -> None:
    """Tell how far the planes that are predicted together are as how far all are."""
    if on_progress is None:
        return
    message = "predicting"
    if total > 1:
        first, last = done + 1, done + num_planes
        message = f"plane {first}" if first == last else f"planes {first} to {last}"
        message += f" of {total}"
    fraction = (done + num_planes * inside.fraction) / total
    on_progress(Progress(fraction=fraction, message=message))


def plane_prompter(
    image: Any,
    engine: Engine,
    options: PredictOptions,
    *,
    index: PlaneIndex = (),
    region_xyxy: tuple[int, int, int, int] | None = None,
    cancel: CancelToken | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> BoxPrompter:
    """Return one plane with its features kept, to be asked about boxes and points.

    Parameters
    ----------
    image, engine, options
        As in `predict_planes`.
    index
        Lead index of the plane.
    region_xyxy
        Part of the plane to look at, with the contrast of the whole; boxes and masks are in the
        whole plane, and boxes are cut to the part. None: the whole plane, whose features take
        about as long as a prediction. From some 2048 x 2048 pixels on, rather give what
        `engine.prompt.region_around` says for one prompt, with a margin of a few objects.
    cancel, on_progress
        `cancel` is looked at before each layer of the backbone.

    Raises
    ------
    RunCancelled
        If `cancel` was set.
    ImageError
        If the plane cannot be read.
    """
    image = as_image_array(image)
    (cancel or CancelToken()).raise_if_cancelled()
    plane = image.plane(index, region_xyxy=region_xyxy)
    if region_xyxy is None:
        return engine.prompter(plane, options, cancel=cancel, on_progress=on_progress)
    options = _with_limits_of_plane(options, engine, image, index)
    inner = engine.prompter(plane, options, cancel=cancel, on_progress=on_progress)
    return RegionPrompter(inner, region_xyxy=region_xyxy, image_hw=image.image_hw)


def _with_limits_of_plane(
    options: PredictOptions, engine: Engine, image: ImageArray, index: PlaneIndex
) -> PredictOptions:
    """Return options that give a region the contrast of its whole plane.

    By its own contrast, a dark corner would be stretched until noise looks like objects.
    """
    normalization = options.normalization or engine.spec.normalization
    height, width = image.image_hw
    if normalization.mode == "range" or height * width > _MAX_LIMIT_PIXELS:
        return options
    pixels = pick_channels(image.plane(index), options.channels, engine.spec.num_inputs)
    low, high = normalization.limits(pixels)
    if not low < high:
        return options
    return replace(options, normalization=replace(normalization, mode="range", low=low, high=high))


def segment(
    image: Any,
    model: str | Path | Engine = DEFAULT_MODEL,
    *,
    axes: str | None = None,
    engine: EngineKind = "fast",
    device: str = "auto",
    options: PredictOptions | None = None,
    **changes: Any,
) -> InstanceSet:
    """Return the instances of one plane.

    Parameters
    ----------
    image
        (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, numpy, dask or zarr, of any number type; or
        (H, W, C) or (C, H, W) with `axes`.
    model
        What `load_model` takes, or an engine that it gave.
    axes
        Axes by name, such as ``yxc`` or ``cyx``; None: guessed.
    engine, device
        As for `load_model`; not with an engine, which has both.
    options
        How to run; None: the model's own settings.
    **changes
        Fields of `PredictOptions`, in place of `options`: ``segment(image, score=0.3)``.

    Warns
    -----
    InstanceCapWarning
        If ``max_instances`` was reached.

    Raises
    ------
    ImageError
        If the image has more than one plane, or cannot be read.
    WeightsError, DeviceError
        As `load_model`.
    """
    if options is not None and changes:
        raise ValueError(f"give options or {sorted(changes)}, not both")
    options = options or PredictOptions(**changes)
    array = as_image_array(image, axes=axes)
    if array.lead_shape:
        raise ImageError(
            f"segment takes one plane, got axes {array.axes!r} of shape "
            f"{tuple(array.pixels.shape)}: name them with axes='cyx' if one holds channels, or "
            "use predict_planes for a stack"
        )
    if isinstance(model, str | Path):
        model = load_model(model, engine=engine, device=device)
    elif (engine, device) != ("fast", "auto"):
        raise ValueError(
            f"engine={engine!r} and device={device!r} are chosen when a model is loaded: give them "
            "to load_model, or segment the model's name"
        )
    ((_, prediction),) = predict_planes(array, model, options)
    score = model.spec.score if options.score is None else options.score
    if prediction.is_capped(score):
        warnings.warn(cap_message(options.max_instances), InstanceCapWarning, stacklevel=2)
    return prediction.at(score=score, min_area=options.min_area)
