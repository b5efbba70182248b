"""The instance record: what one plane holds, overlaps and all."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import Boxes, as_boxes
from napari_deeppixel.core.mask import CroppedMask

MAX_HANDLE = np.iinfo(np.uint32).max


class InstanceState(StrEnum):
    """What a person has said about an instance."""

    UNREVIEWED = "unreviewed"
    ACCEPTED = "accepted"
    EDITED = "edited"
    DRAWN = "drawn"
    REJECTED = "rejected"
    UNSURE = "unsure"


@dataclass(frozen=True, kw_only=True, eq=False)
class Instance:
    """One object; see `InstanceSet` for the meaning of each field."""

    mask: CroppedMask
    score: float
    category_id: int
    handle: int
    uuid: str
    state: InstanceState
    source: str
    predicted_box_xyxy: tuple[float, ...] = (np.nan,) * 4
    edge_uncertainty: float = np.nan
    level: int = 0

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Tight box of the mask on pixel edges."""
        return self.mask.box_xyxy

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.mask.area


@dataclass(frozen=True, kw_only=True, eq=False)
class InstanceSet:
    """The instances of one plane. Masks may overlap; nothing is flattened.

    Every field but the masks, the size and the categories has a default, so a set can be made
    from masks alone. Arrays are copied and made read-only.

    Attributes
    ----------
    image_hw
        Size of the plane (height, width) in pixels.
    masks
        One `CroppedMask` an instance (N of them), all inside the plane.
    categories
        Table that the category ids belong to.
    category_ids
        int64 (N,), each in the table. Default: the table's first.
    scores
        float64 (N,), 0 to 1, or NaN where a person drew the instance. Default: NaN.
    handles
        int64 (N,), 1 to 2**32 - 1, unique: the numbers in a label image. Default: 1 … N.
    uuids
        N unique strings: the identity on disk. Default: new ones.
    states
        N of `InstanceState`. Default: unreviewed.
    sources
        N strings: the model (name@hash) or person. Default: empty.
    predicted_boxes_xyxy
        float64 (N, 4): boxes as the network regressed them, which need not be tight round the
        mask; NaN where there is none. `boxes_xyxy` are the tight boxes.
    edge_uncertainties
        float64 (N,), 0 to 1: how unsure the network is where the mask ends; NaN where there is
        no such number.
    levels
        int64 (N,): which of the instances that a person touched lies higher, where they overlap;
        see `drawing_order`. Default: 0.

    Raises
    ------
    ValueError
        If a length differs from N, a value is out of its range or not unique, or a mask leaves
        the plane.
    """

    image_hw: tuple[int, int]
    masks: tuple[CroppedMask, ...]
    categories: CategoryTable
    category_ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    handles: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    uuids: tuple[str, ...] = ()
    states: tuple[InstanceState, ...] = ()
    sources: tuple[str, ...] = ()
    predicted_boxes_xyxy: Boxes = field(default_factory=lambda: np.zeros((0, 4)))
    edge_uncertainties: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    levels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        n = len(self.masks)
        fill = _Filler(self, n)
        fill.sequence("masks", ())
        fill.sequence("uuids", tuple(str(uuid4()) for _ in range(n)) if not self.uuids else ())
        fill.sequence("states", (InstanceState.UNREVIEWED,) * n)
        fill.sequence("sources", ("",) * n)
        first_id = self.categories.categories[0].id if len(self.categories) else 0
        fill.array("category_ids", np.full(n, first_id, np.int64))
        fill.array("scores", np.full(n, np.nan))
        fill.array("handles", np.arange(1, n + 1, dtype=np.int64))
        fill.array("predicted_boxes_xyxy", np.full((n, 4), np.nan))
        fill.array("edge_uncertainties", np.full(n, np.nan))
        fill.array("levels", np.zeros(n, np.int64))
        object.__setattr__(self, "states", tuple(InstanceState(state) for state in self.states))
        self._check_values()

    def _check_values(self) -> None:
        height, width = self.image_hw
        if height < 1 or width < 1:
            raise ValueError(f"a plane needs at least one pixel, got {self.image_hw}")
        boxes = self.boxes_xyxy
        outside = (boxes[:, 2] > width) | (boxes[:, 3] > height)
        if outside.any():
            raise ValueError(
                f"mask {int(np.flatnonzero(outside)[0])} with box "
                f"{boxes[outside][0].tolist()} leaves the plane of {self.image_hw}"
            )
        known = [category.id for category in self.categories.categories]
        unknown = set(self.category_ids.tolist()) - set(known)
        if unknown:
            raise ValueError(f"category ids {sorted(unknown)} are not among {known}")
        if ((self.scores < 0) | (self.scores > 1)).any():
            raise ValueError(f"scores must lie in 0..1 or be NaN, got {self.scores.tolist()}")
        if ((self.handles < 1) | (self.handles > MAX_HANDLE)).any():
            raise ValueError(f"handles must lie in 1..{MAX_HANDLE}, got {self.handles.tolist()}")
        if np.unique(self.handles).size != len(self):
            raise ValueError(f"handles must be unique, got {self.handles.tolist()}")
        if len(set(self.uuids)) != len(self):
            raise ValueError("uuids must be unique")

    @classmethod
    def empty(cls, image_hw: tuple[int, int], categories: CategoryTable) -> "InstanceSet":
        """Return a set without instances."""
        return cls(image_hw=image_hw, masks=(), categories=categories)

    @classmethod
    def concatenate(cls, sets: Sequence["InstanceSet"]) -> "InstanceSet":
        """Return all instances of several sets of one plane, in their order.

        Raises
        ------
        ValueError
            If there is no set, sizes or categories differ, or handles or uuids repeat.
        """
        if not sets:
            raise ValueError("nothing to join: give at least one set")
        first = sets[0]
        if any(s.image_hw != first.image_hw for s in sets):
            raise ValueError(f"sizes differ: {[s.image_hw for s in sets]}")
        if any(s.categories != first.categories for s in sets):
            raise ValueError("category tables differ")
        joined: dict[str, Any] = {
            name: sum((getattr(s, name) for s in sets), ()) for name in _SEQUENCES
        }
        joined |= {name: np.concatenate([getattr(s, name) for s in sets]) for name in _ARRAYS}
        return replace(first, **joined)

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, position: int) -> Instance:
        return Instance(
            mask=self.masks[position],
            score=float(self.scores[position]),
            category_id=int(self.category_ids[position]),
            handle=int(self.handles[position]),
            uuid=self.uuids[position],
            state=self.states[position],
            source=self.sources[position],
            predicted_box_xyxy=tuple(self.predicted_boxes_xyxy[position].tolist()),
            edge_uncertainty=float(self.edge_uncertainties[position]),
            level=int(self.levels[position]),
        )

    def __iter__(self) -> Iterator[Instance]:
        return (self[position] for position in range(len(self)))

    @classmethod
    def from_instances(
        cls,
        instances: Iterable[Instance],
        *,
        image_hw: tuple[int, int],
        categories: CategoryTable,
    ) -> "InstanceSet":
        """Return a set of single instances, in their order."""
        chosen = list(instances)
        return cls(
            image_hw=image_hw,
            categories=categories,
            masks=tuple(i.mask for i in chosen),
            category_ids=np.array([i.category_id for i in chosen], np.int64),
            scores=np.array([i.score for i in chosen], np.float64),
            handles=np.array([i.handle for i in chosen], np.int64),
            uuids=tuple(i.uuid for i in chosen),
            states=tuple(i.state for i in chosen),
            sources=tuple(i.source for i in chosen),
            predicted_boxes_xyxy=as_boxes([i.predicted_box_xyxy for i in chosen]),
            edge_uncertainties=np.array([i.edge_uncertainty for i in chosen], np.float64),
            levels=np.array([i.level for i in chosen], np.int64),
        )

    def with_instances(self, instances: Iterable[Instance]) -> "InstanceSet":
        """Return a set of the same plane and categories with these instances."""
        return InstanceSet.from_instances(
            instances, image_hw=self.image_hw, categories=self.categories
        )

    @cached_property
    def boxes_xyxy(self) -> Boxes:
        """Tight boxes of the masks, float64 (N, 4), on pixel edges."""
        return as_boxes([mask.box_xyxy for mask in self.masks])

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each mask, int64 (N,)."""
        return np.array([mask.area for mask in self.masks], dtype=np.int64)

    def select(self, which: ArrayLike) -> "InstanceSet":
        """Return some of the instances: a bool array (N,) or positions, in their order."""
        positions = np.asarray(which)
        if positions.dtype == np.bool_:
            if positions.shape != (len(self),):
                raise ValueError(f"need {len(self)} choices, got shape {positions.shape}")
            positions = np.flatnonzero(positions)
        positions = positions.astype(np.int64)
        chosen: dict[str, Any] = {
            name: tuple(getattr(self, name)[i] for i in positions) for name in _SEQUENCES
        }
        chosen |= {name: getattr(self, name)[positions] for name in _ARRAYS}
        return replace(self, **chosen)

    def above_score(self, score: float) -> "InstanceSet":
        """Return the instances with at least a score; those without a score stay."""
        return self.select(~(self.scores < score))

    def moved(self, *, dy: int, dx: int, image_hw: tuple[int, int]) -> "InstanceSet":
        """Return the same instances shifted into a plane of another size."""
        return replace(
            self,
            image_hw=image_hw,
            masks=tuple(mask.moved(dy=dy, dx=dx) for mask in self.masks),
            predicted_boxes_xyxy=self.predicted_boxes_xyxy + np.array([dx, dy, dx, dy]),
        )

    def recategorised(self, table: CategoryTable, new_ids: dict[int, int]) -> "InstanceSet":
        """Return the same instances in another table, with category ids mapped to it."""
        ids = np.array([new_ids[int(old)] for old in self.category_ids], np.int64)
        return replace(self, categories=table, category_ids=ids)

    def with_handles_from(self, first_handle: int) -> "InstanceSet":
        """Return the same instances with handles ``first_handle``, ``first_handle + 1``, …."""
        handles = np.arange(first_handle, first_handle + len(self), dtype=np.int64)
        return replace(self, handles=handles)

    def drawing_order(self) -> NDArray[np.int64]:
        """Return positions (N,) from the lowest instance to the top-most.

        What a person drew or confirmed lies on top of predictions, among those the higher level
        on top, and where these are equal a higher score (none counts as 1).
        """
        is_human = np.array([state is not InstanceState.UNREVIEWED for state in self.states], bool)
        score = np.where(np.isnan(self.scores), 1.0, self.scores)
        level = np.where(is_human, self.levels, 0)
        return np.lexsort((np.arange(len(self)), score, level, is_human))

    def label_image(self) -> NDArray[np.uint16] | NDArray[np.uint32]:
        """Return handles drawn into an image (H, W); where masks overlap, the top-most shows.

        A lossy view: see `drawing_order` for what is top-most. uint16 while the handles allow.
        """
        dtype = label_dtype(int(self.handles.max(initial=0)))
        label_image: NDArray[Any] = np.zeros(self.image_hw, dtype=dtype)
        self.draw_into(label_image)
        return label_image

    def draw_into(self, label_image: NDArray[Any]) -> None:
        """Draw the handles over an integer image (H, W), in place."""
        for position in self.drawing_order():
            mask = self.masks[position]
            label_image[mask.slices][mask.pixels] = self.handles[position]


_SEQUENCES = ("masks", "uuids", "states", "sources")
_ARRAYS = (
    "category_ids",
    "scores",
    "handles",
    "predicted_boxes_xyxy",
    "edge_uncertainties",
    "levels",
)


class _Filler:
    """Sets defaults and checks lengths while an `InstanceSet` is made."""

    def __init__(self, instances: InstanceSet, n: int) -> None:
        self._instances, self._n = instances, n

    def _check_length(self, name: str, length: int) -> None:
        if length != self._n:
            raise ValueError(f"{self._n} masks but {length} {name}")

    def sequence(self, name: str, default: tuple[Any, ...]) -> None:
        values = tuple(getattr(self._instances, name)) or default
        self._check_length(name, len(values))
        object.__setattr__(self._instances, name, values)

    def array(self, name: str, default: NDArray[Any]) -> None:
        values = np.array(getattr(self._instances, name), dtype=default.dtype)
        if values.size == 0:
            values = default
        self._check_length(name, len(values))
        if values.shape != default.shape:
            raise ValueError(f"{name} must have shape {default.shape}, got {values.shape}")
        values.flags.writeable = False
        object.__setattr__(self._instances, name, values)


def label_dtype(largest_handle: int) -> "np.dtype[Any]":
    """Return the smaller of two types that hold a handle: napari draws 16 bits much faster."""
    return np.dtype(np.uint16 if largest_handle <= np.iinfo(np.uint16).max else np.uint32)


def label_image_to_instances(
    label_image: NDArray[np.integer[Any]],
    *,
    categories: CategoryTable,
    source: str = "",
    state: InstanceState = InstanceState.UNREVIEWED,
) -> InstanceSet:
    """Return one instance for each number but 0 in a label image (H, W); handles = the numbers.

    Raises
    ------
    ValueError
        If the image is not a 2-D array of integers, or holds a number that is no handle.
    """
    label_image = np.asarray(label_image)
    if label_image.ndim != 2 or not np.issubdtype(label_image.dtype, np.integer):
        raise ValueError(
            f"label image must be 2-D integer, got {label_image.ndim}-D {label_image.dtype}"
        )
    low, high = int(label_image.min(initial=0)), int(label_image.max(initial=0))
    if low < 0 or high > MAX_HANDLE:
        raise ValueError(f"label image holds {low} to {high}; numbers must lie in 0..{MAX_HANDLE}")
    masks, handles = [], []
    rows, columns = np.nonzero(label_image)
    values = label_image[rows, columns]
    order = np.argsort(values, kind="stable")
    rows, columns, values = rows[order], columns[order], values[order]
    starts = np.flatnonzero(np.diff(values, prepend=0))
    ends = np.append(starts, values.size)[1:]
    for start, end in zip(starts, ends, strict=True):
        y, x = rows[start:end], columns[start:end]
        top, left = int(y.min()), int(x.min())
        pixels = np.zeros((int(y.max()) - top + 1, int(x.max()) - left + 1), np.bool_)
        pixels[y - top, x - left] = True
        masks.append(CroppedMask(pixels=pixels, y=top, x=left))
        handles.append(int(values[start]))
    return InstanceSet(
        image_hw=(label_image.shape[0], label_image.shape[1]),
        masks=tuple(masks),
        categories=categories,
        handles=np.array(handles, dtype=np.int64),
        states=(state,) * len(masks),
        sources=(source,) * len(masks),
    )
