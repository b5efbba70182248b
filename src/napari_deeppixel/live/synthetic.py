"""Moving discs whose truth is known: a camera for tests and for trying things out."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import BoolImage
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.live.source import (
    Frame,
    SourceError,
    SourceFault,
    SourceInfo,
    SourceOptions,
    StreamInfo,
)

ADDRESS = "synthetic:discs"
CATEGORIES = CategoryTable.from_names("disc")
DEFAULT_HW = (480, 640)
DEFAULT_FPS = 30.0
# an object that shows less than this part of itself is hidden: nobody could mark it
MIN_VISIBLE = 0.2


@dataclass(frozen=True, kw_only=True)
class SyntheticScene:
    """What moves in the picture. Lengths are parts of its shorter side.

    Attributes
    ----------
    num_objects
        How many ellipses; a later one lies on top of an earlier one.
    diameters
        Least and largest.
    speeds
        Least and largest, a second.
    away_s
        Objects turn back outside the picture; the longest time that one is gone.
    seed
        Another seed gives another scene; the same seed gives the same.
    """

    num_objects: int = 14
    diameters: tuple[float, float] = (0.05, 0.12)
    speeds: tuple[float, float] = (0.04, 0.2)
    away_s: float = 1.5
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SyntheticFaults:
    """What goes wrong, by the number of the frame; None: nothing.

    Attributes
    ----------
    open_fault
        Why it cannot be opened.
    error_at, error_fault
        Raise an error instead of this frame.
    pause_at, pause_s
        Wait before this frame; more than the options' `timeout_s` ends in an error.
    resize_at, resized_hw
        From this frame on the picture has another size.
    rgb_at, uint16_at
        From this frame on the picture has three channels, or 16 bits (257 times as bright).
    end_at
        End instead of this frame, as a file does.
    num_openings
        How often it must be opened until nothing goes wrong any more, less one.
    """

    open_fault: SourceFault | None = None
    error_at: int | None = None
    error_fault: SourceFault = SourceFault.LOST
    pause_at: int | None = None
    pause_s: float = 1.0
    resize_at: int | None = None
    resized_hw: tuple[int, int] = (240, 320)
    rgb_at: int | None = None
    uint16_at: int | None = None
    end_at: int | None = None
    num_openings: int = 1


_NO_FAULTS = SyntheticFaults()


class DiscScene:
    """A scene at one size: any moment of it can be drawn, without those before.

    Parameters
    ----------
    scene
        What moves.
    image_hw
        Height and width in pixels.
    """

    def __init__(self, scene: SyntheticScene, image_hw: tuple[int, int]) -> None:
        self.image_hw = image_hw
        n, random = scene.num_objects, np.random.default_rng(scene.seed)
        side, self._seed = min(image_hw), scene.seed
        diameters = random.uniform(*scene.diameters, n) * side
        # half axes of an ellipse up to 1.4 times as long as wide
        stretch = np.sqrt(random.uniform(1, 1.4, n))
        self._axes = np.stack([diameters / 2 * stretch, diameters / 2 / stretch], axis=1)
        self._turn, self._turn_speed = random.uniform(0, np.pi, n), random.uniform(-0.5, 0.5, n)
        heading, speed = random.uniform(0, 2 * np.pi, n), random.uniform(*scene.speeds, n) * side
        self._velocity_yx = speed[:, None] * np.stack([np.sin(heading), np.cos(heading)], axis=1)
        # half of the way out and back lies before the turn
        outside = random.uniform(0, scene.away_s, n)[:, None] / 2 * np.abs(self._velocity_yx)
        self._margin_yx = self._axes.max(axis=1)[:, None] + outside
        self._start_yx = random.uniform(0, 1, (n, 2)) * np.array(image_hw)
        self._brightness = random.uniform(160, 250, n)
        # read noise that stays, so that a frame costs one copy
        self._background = random.normal(25, 4, image_hw).clip(0, 255).astype(np.uint8)

    def centres_yx(self, time_s: float) -> NDArray[np.float64]:
        """Return the centres (N, 2) at a moment; they run to and fro between the margins."""
        low, high = -self._margin_yx, np.array(self.image_hw) + self._margin_yx
        way = (self._start_yx + self._velocity_yx * time_s - low) % (2 * (high - low))
        centres: NDArray[np.float64] = low + np.minimum(way, 2 * (high - low) - way)
        return centres

    def pixels(self, time_s: float) -> NDArray[np.uint8]:
        """Return the picture (H, W) at a moment."""
        pixels = self._background.copy()
        for number, (radii, corner_yx) in enumerate(self._crops(time_s)):
            if radii is None:
                continue
            y, x = corner_yx
            window = pixels[y : y + radii.shape[0], x : x + radii.shape[1]]
            # a little darker towards the edge, never below 0.8 of the brightness
            bright = np.float32(self._brightness[number])
            shaded = bright - np.float32(0.2) * bright * radii
            np.copyto(window, shaded, where=radii <= 1, casting="unsafe")
        return pixels

    def instances(self, time_s: float) -> InstanceSet:
        """Return the visible parts of the objects at a moment.

        Handles are 1, 2, … and, as the uuids, stay with the object; one that shows less than a
        fifth of itself is left out.
        """
        numbers, masks = [], []
        owner = np.zeros(self.image_hw, np.int32)
        crops = list(self._crops(time_s))
        for number, (radii, (y, x)) in enumerate(crops, start=1):
            if radii is not None:
                owner[y : y + radii.shape[0], x : x + radii.shape[1]][radii <= 1] = number
        for number, (radii, (y, x)) in enumerate(crops, start=1):
            if radii is None:
                continue
            visible: BoolImage = owner[y : y + radii.shape[0], x : x + radii.shape[1]] == number
            mask = CroppedMask.from_mask(visible, y=y, x=x)
            whole = np.pi * np.prod(self._axes[number - 1])
            if mask is not None and mask.area >= MIN_VISIBLE * whole:
                numbers.append(number)
                masks.append(mask)
        return InstanceSet(
            image_hw=self.image_hw,
            masks=tuple(masks),
            categories=CATEGORIES,
            handles=np.array(numbers, np.int64),
            uuids=tuple(f"disc-{self._seed}-{number}" for number in numbers),
            sources=("truth",) * len(masks),
        )

    def _crops(self, time_s: float) -> Iterator[tuple[NDArray[np.float32] | None, tuple[int, int]]]:
        """Yield, for each object, squared radii in its box (1 at its edge) and the box's corner."""
        turns = self._turn + self._turn_speed * time_s
        sin, cos = np.sin(turns), np.cos(turns)
        # an ellipse as a quadratic form: yy * dy² + xy * dx * dy + xx * dx² <= 1
        long, short = 1 / self._axes.T**2
        forms = np.stack(
            [
                sin**2 * long + cos**2 * short,
                2 * sin * cos * (long - short),
                cos**2 * long + sin**2 * short,
            ],
            axis=1,
        )
        centres_yx, reach = self.centres_yx(time_s), self._axes.max(axis=1)[:, None]
        low = np.maximum(np.floor(centres_yx - reach), 0).astype(int)
        high = np.minimum(np.ceil(centres_yx + reach), self.image_hw).astype(int)
        for number, (yy, xy, xx) in enumerate(forms.astype(np.float32)):
            (y1, x1), (y2, x2) = low[number].tolist(), high[number].tolist()
            if y1 >= y2 or x1 >= x2:
                yield None, (0, 0)
                continue
            # a pixel counts where its centre lies
            y, x = centres_yx[number].tolist()
            dy = (np.arange(y1, y2) + (0.5 - y)).astype(np.float32)[:, None]
            dx = (np.arange(x1, x2) + (0.5 - x)).astype(np.float32)
            radii = dy * (xy * dx)
            radii += yy * (dy * dy)
            radii += xx * (dx * dx)
            yield radii, (y1, x1)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What a frame is like once the faults are counted in."""

    image_hw: tuple[int, int]
    is_rgb: bool
    is_uint16: bool


class SyntheticSource:
    """A source of moving discs, grey and 8 bits, that is the same for the same seed.

    A late reader gets the frames that are due at once, one after another: none is lost here.

    Parameters
    ----------
    options
        Size (default 480 x 640) and frames a second (30).
    scene
        What moves.
    faults
        What goes wrong.
    is_paced
        Give frames at their time; else as fast as they are taken, for tests.
    """

    def __init__(
        self,
        options: SourceOptions | None = None,
        *,
        scene: SyntheticScene | None = None,
        faults: SyntheticFaults | None = None,
        is_paced: bool = True,
    ) -> None:
        self._options = options or SourceOptions()
        self._scene, self._faults = scene or SyntheticScene(), faults or _NO_FAULTS
        self._is_paced = is_paced
        self._image_hw = self._options.size_hw or DEFAULT_HW
        self._fps = self._options.fps or DEFAULT_FPS
        self._discs: dict[tuple[int, int], DiscScene] = {}
        self._interrupted = threading.Event()
        self._num_openings = 0
        self._is_open = False

    @property
    def info(self) -> SourceInfo:
        """What it is."""
        return SourceInfo(address=ADDRESS, label="Moving discs (synthetic)", kind="synthetic")

    def open(self) -> StreamInfo:
        """Open it.

        Raises
        ------
        SourceError
            If the faults say so.
        """
        self._interrupted.clear()
        self._num_openings += 1
        fault = self._faults_of(self._num_openings).open_fault
        if fault is not None:
            raise SourceError(f"the synthetic source was told to be {fault.value}", fault=fault)
        self._is_open = True
        self._discs_at(self._image_hw)
        return StreamInfo(image_hw=self._image_hw, fps=self._fps, description="synthetic, gray8")

    def frames(self) -> Iterator[Frame]:
        """Yield frames as long as somebody takes them, or until `interrupt`.

        Raises
        ------
        SourceError
            If it is not open, or the faults say so.
        """
        if not self._is_open:
            raise SourceError("the synthetic source is not open: call open() first")
        stream, number, start_s = self._num_openings, 0, time.monotonic()
        faults = self._faults_of(stream)
        while number != faults.end_at:
            if number == faults.error_at:
                raise SourceError(
                    f"the synthetic source was told to fail at frame {number}",
                    fault=faults.error_fault,
                )
            if number == faults.pause_at:
                self._pause(faults.pause_s)
                start_s += faults.pause_s
            device_s = number / self._fps
            if self._is_paced:
                self._interrupted.wait(max(0.0, start_s + device_s - time.monotonic()))
            if self._interrupted.is_set():
                return
            yield Frame(
                pixels=self._pixels(number, stream),
                number=number,
                device_s=device_s,
                stream=stream,
            )
            number += 1

    def interrupt(self) -> None:
        """End `frames` at once, a pause too; from any thread. `open` begins anew."""
        self._interrupted.set()

    def close(self) -> None:
        """Let go of it."""
        self._is_open = False

    def truth(self, number: int, *, stream: int = 1) -> InstanceSet:
        """Return what is to be seen in a frame; handles and uuids stay with the object."""
        look = self._look(number, stream)
        return self._discs_at(look.image_hw).instances(number / self._fps)

    def _pixels(self, number: int, stream: int) -> NDArray[Any]:
        look = self._look(number, stream)
        pixels: NDArray[Any] = self._discs_at(look.image_hw).pixels(number / self._fps)
        if look.is_uint16:
            pixels = pixels.astype(np.uint16) * 257
        return np.repeat(pixels[..., None], 3, axis=2) if look.is_rgb else pixels

    def _look(self, number: int, stream: int) -> _Look:
        faults = self._faults_of(stream)

        def is_from(first: int | None) -> bool:
            return first is not None and number >= first

        return _Look(
            image_hw=faults.resized_hw if is_from(faults.resize_at) else self._image_hw,
            is_rgb=is_from(faults.rgb_at),
            is_uint16=is_from(faults.uint16_at),
        )

    def _faults_of(self, stream: int) -> SyntheticFaults:
        return self._faults if stream <= self._faults.num_openings else _NO_FAULTS

    def _discs_at(self, image_hw: tuple[int, int]) -> DiscScene:
        if image_hw not in self._discs:
            self._discs[image_hw] = DiscScene(self._scene, image_hw)
        return self._discs[image_hw]

    def _pause(self, pause_s: float) -> None:
        is_over = self._interrupted.wait(min(pause_s, self._options.timeout_s))
        if pause_s > self._options.timeout_s and not is_over:
            raise SourceError(
                f"the synthetic source gave no frame for {self._options.timeout_s:g} s",
                fault=SourceFault.TIMEOUT,
            )
