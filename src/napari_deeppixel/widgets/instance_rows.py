"""The rows of the instance table: plain arrays, quick to fill, renew, sort and filter."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import as_boxes, box_centres_xy
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.edits.draft import InstanceRef
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.edits.uncertainty import OPEN_STATES

STATES = tuple(InstanceState)
_STATE_CODES = {state: code for code, state in enumerate(STATES)}
_OPEN_CODES = [_STATE_CODES[state] for state in OPEN_STATES]


class Column(StrEnum):
    """The columns, in their order."""

    HANDLE = "handle"
    CATEGORY = "category"
    SCORE = "score"
    AREA = "area"
    STATE = "state"
    UNCERTAINTY = "uncertainty"
    PLANE = "plane"
    SOURCE = "source"


COLUMNS = tuple(Column)


class InstanceRows:
    """One row for each instance of a session that is shown, on all planes.

    Attributes
    ----------
    refs
        Plane index and uuid of each row.
    with_rejected
        Whether rejected instances have rows, too; `fill` anew after a change.
    axes
        A letter for each lead axis: the words for the planes in a filter.
    """

    def __init__(self) -> None:
        self.with_rejected = False
        self.axes = ""
        self._session: AnnotationSession | None = None
        self._uncertainties: Mapping[InstanceRef, float] = {}
        self.fill()

    def __len__(self) -> int:
        return len(self.refs)

    # -- filling ------------------------------------------------------------------------------

    def set_session(self, session: AnnotationSession | None, *, axes: str = "") -> None:
        """Set whose instances these are, and fill the rows."""
        self._session, self.axes = session, axes
        self._uncertainties = {}
        self.fill()

    def fill(self) -> None:
        """Make all rows anew, plane by plane in the order in which the instances came."""
        found: list[tuple[PlaneIndex, Instance]] = []
        session = self._session
        if session is not None:
            planes = session.snapshot().instances
            found = [
                (index, instance)
                for index in sorted(planes)
                for instance in planes[index]
                if session.is_to_show(instance) or self._is_rejected_row(instance)
            ]
        self.refs = [(index, instance.uuid) for index, instance in found]
        self._values = self._columns(found)
        self._number_rows()

    def _is_rejected_row(self, instance: Instance) -> bool:
        return self.with_rejected and instance.state is InstanceState.REJECTED

    def _number_rows(self) -> None:
        self._row_of = {ref: row for row, ref in enumerate(self.refs)}
        self._table: pd.DataFrame | None = None

    def _columns(self, found: Sequence[tuple[PlaneIndex, Instance]]) -> dict[str, NDArray[Any]]:
        instances = [instance for _, instance in found]
        states = np.array([_STATE_CODES[i.state] for i in instances], np.int64)
        return {
            "handle": np.array([i.handle for i in instances], np.int64),
            "category_id": np.array([i.category_id for i in instances], np.int64),
            "score": np.array([i.score for i in instances], np.float64),
            "area": np.array([i.area for i in instances], np.int64),
            "state": states,
            "source": np.array([i.source for i in instances], dtype=object),
            "instance": np.array([*instances, None], dtype=object)[:-1],
            "plane": np.array([index for index, _ in found], np.int64).reshape(
                len(found), len(self.axes)
            ),
            "uncertainty": self._known_uncertainties(
                [(index, instance.uuid) for index, instance in found], states
            ),
        }

    def _known_uncertainties(
        self, refs: Sequence[InstanceRef], states: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        known = self._uncertainties
        if not known:
            return np.full(len(refs), np.nan)
        values = np.array([known.get(ref, np.nan) for ref in refs], np.float64)
        # what a person settled is not uncertain any more
        values[~np.isin(states, _OPEN_CODES) & ~np.isnan(values)] = 0.0
        return values

    def set_uncertainties(self, values: Mapping[InstanceRef, float]) -> None:
        """Set what is known of the uncertainty (0 to 1) of instances; {}: nothing."""
        self._uncertainties = values
        self._values["uncertainty"] = self._known_uncertainties(self.refs, self._values["state"])
        self._table = None

    def renew(self, refs: Iterable[InstanceRef]) -> NDArray[np.int64] | None:
        """Renew the rows of some instances; return which rows changed, None if rows came or went.

        New rows go to the end; `order` puts them where they belong.
        """
        session = self._session
        if session is None:
            return np.zeros(0, np.int64)
        kept: list[tuple[PlaneIndex, Instance]] = []
        came: list[tuple[PlaneIndex, Instance]] = []
        gone: list[int] = []
        for ref in refs:
            instance, row = session.get(*ref), self._row_of.get(ref)
            has_row = instance is not None and (
                session.is_to_show(instance) or self._is_rejected_row(instance)
            )
            if instance is not None and has_row:
                (came if row is None else kept).append((ref[0], instance))
            elif row is not None:
                gone.append(row)
        rows = np.array([self._row_of[index, i.uuid] for index, i in kept], np.int64)
        for name, values in self._columns(kept).items():
            self._values[name][rows] = values
        self._table = None
        if not came and not gone:
            return rows
        self._add_and_remove(came, gone)
        return None

    def _add_and_remove(
        self, came: Sequence[tuple[PlaneIndex, Instance]], gone: Sequence[int]
    ) -> None:
        new = self._columns(came)
        self._values = {
            name: np.concatenate([np.delete(values, gone, axis=0), new[name]])
            for name, values in self._values.items()
        }
        left = set(gone)
        self.refs = [ref for row, ref in enumerate(self.refs) if row not in left]
        self.refs += [(index, instance.uuid) for index, instance in came]
        self._number_rows()

    # -- asking -------------------------------------------------------------------------------

    def row_of(self, ref: InstanceRef) -> int | None:
        """Return the row of an instance; None if it has none."""
        return self._row_of.get(ref)

    def value(self, row: int, column: Column) -> Any:
        """Return what a cell holds: a number, a name, a state or the plane's index."""
        if column is Column.CATEGORY:
            return self._categories.name_of(int(self._values["category_id"][row]))
        value = self._values[column.value][row]
        if column is Column.STATE:
            return STATES[value]
        return tuple(value.tolist()) if column is Column.PLANE else value

    @property
    def has_uncertainties(self) -> bool:
        """Whether the uncertainty of any instance is known."""
        return bool(self._uncertainties)

    @property
    def _categories(self) -> CategoryTable:
        return CategoryTable(categories=()) if self._session is None else self._session.categories

    def table(self) -> pd.DataFrame:
        """Return the rows with the columns of `edits.filter.attribute_table` and one an axis."""
        if self._table is None:
            self._table = self._make_table()
        return self._table

    def _make_table(self) -> pd.DataFrame:
        values, categories = self._values, self._categories.categories
        ids = np.array([category.id for category in categories], np.int64)
        by_id = np.argsort(ids)
        codes = np.zeros(0, np.int64)
        if len(ids):
            codes = by_id[np.searchsorted(ids[by_id], values["category_id"])]
        boxes = as_boxes([instance.box_xyxy for instance in values["instance"]])
        sides, centres = (boxes[:, 2:] - boxes[:, :2]).astype(np.int64), box_centres_xy(boxes)
        columns = {
            "handle": values["handle"],
            "category": pd.Categorical.from_codes(
                codes, categories=pd.Index([category.name for category in categories], dtype=object)
            ),
            "score": values["score"],
            "area": values["area"],
            "width": sides[:, 0],
            "height": sides[:, 1],
            "state": pd.Categorical.from_codes(
                values["state"], categories=pd.Index([state.value for state in STATES])
            ),
            "source": pd.Categorical(values["source"]),
            "uncertainty": values["uncertainty"],
            "x": centres[:, 0],
            "y": centres[:, 1],
            "reviewed": ~np.isin(values["state"], _OPEN_CODES),
        }
        columns |= {axis: values["plane"][:, n] for n, axis in enumerate(self.axes)}
        return pd.DataFrame(columns)

    def order(
        self, is_chosen: NDArray[np.bool_], sort_by: Sequence[tuple[Column, bool]]
    ) -> NDArray[np.int64]:
        """Return the chosen rows (K,) in their order.

        Parameters
        ----------
        is_chosen
            (N,).
        sort_by
            Columns and whether their largest value comes first; the first one counts most. Rows
            that are the same in all of them are in the order of plane and handle, which undo and
            redo do not change. Unknown numbers come last either way.
        """
        rows = np.flatnonzero(is_chosen)
        keys = [
            self._key(column, is_descending=is_descending)[rows]
            for column, is_descending in (
                *sort_by,
                (Column.PLANE, False),
                (Column.HANDLE, False),
            )
        ]
        return rows[np.lexsort(keys[::-1])]

    def _key(self, column: Column, *, is_descending: bool) -> NDArray[Any]:
        """Return numbers (N,) to sort a column by; NaN is sorted to the end."""
        key = self._values["category_id" if column is Column.CATEGORY else column.value]
        if column is Column.CATEGORY:
            ids, place = np.unique(key, return_inverse=True)
            names = [self._categories.name_of(number).lower() for number in ids.tolist()]
            key = np.argsort(np.argsort(np.array(names, dtype=object), kind="stable"))[place]
        elif column is Column.SOURCE:
            key = np.unique(key.astype(str), return_inverse=True)[1]
        elif column is Column.PLANE:
            sizes = key.max(axis=0, initial=0) + 1
            key = key @ np.append(np.cumprod(sizes[:0:-1])[::-1], 1)[: len(sizes)]
        return -key if is_descending else key
