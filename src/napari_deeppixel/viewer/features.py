"""The features tables of our layers: one reader and one writer."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from napari_deeppixel.core.instance import Instance, InstanceSet

# what a person may change in a table; the rest is measured
EDITABLE_COLUMNS = ("category", "state")


def labels_features(sets: list[InstanceSet]) -> pd.DataFrame:
    """Return the features table of a Labels layer: row n is handle n, row 0 the background.

    Handles that no instance has now have an empty row.
    """
    rows = 1 + max((int(s.handles.max(initial=0)) for s in sets), default=0)
    table = _empty_rows(0, rows)
    for instances in sets:
        if len(instances):
            table.loc[instances.handles, list(table)[1:]] = _attribute_table(instances).to_numpy()
    return table


def _empty_rows(first: int, last: int) -> pd.DataFrame:
    """Return the rows of handles that no instance has, from one to before another."""
    count = last - first
    nothing = [None] * count
    return pd.DataFrame(
        {
            "handle": np.arange(first, last),
            "category": pd.Series(nothing, dtype=object),
            "score": np.full(count, np.nan),
            "area": np.zeros(count, np.int64),
            "state": pd.Series(nothing, dtype=object),
            "source": pd.Series(nothing, dtype=object),
        }
    )


def with_rows(table: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Return the features table of a Labels layer with at least so many rows; itself if it has.

    Columns that are not ours are empty in new rows.
    """
    first = len(table)
    if first >= rows:
        return table
    new = _empty_rows(first, rows)
    columns = {}
    for name in table:
        if name in new:
            values = np.concatenate([table[name].to_numpy(), new[name].to_numpy()])
            # texts alone would get a type of their own, which has no None
            columns[name] = pd.Series(values, dtype=values.dtype)
        else:
            columns[name] = table[name].reindex(range(rows))
    return pd.DataFrame(columns)


def put_rows(table: pd.DataFrame, rows: list[int], values: dict[str, list[Any]]) -> None:
    """Write rows of a table by place, in place: column → a value for each row."""
    for name, column in values.items():
        place = list(table.columns).index(name)
        if len(rows) == 1:
            # a tenth of the time
            table.iat[rows[0], place] = column[0]
        else:
            table.iloc[np.array(rows), place] = column


def boxes_features(sets: list[InstanceSet]) -> pd.DataFrame:
    """Return the features table of a Shapes layer: one row a box."""
    tables = []
    for instances in sets:
        table = _attribute_table(instances)
        table.insert(0, "handle", instances.handles)
        captions = [
            box_caption(category, score)
            for category, score in zip(table["category"], table["score"], strict=True)
        ]
        # no captions would be numbers
        table["caption"] = pd.Series(captions, dtype=object)
        tables.append(table)
    if tables:
        return pd.concat(tables, ignore_index=True)
    return pd.DataFrame(
        {
            "handle": pd.Series(dtype=np.int64),
            "category": pd.Series(dtype=object),
            "score": pd.Series(dtype=np.float64),
            "area": pd.Series(dtype=np.int64),
            "state": pd.Series(dtype=object),
            "source": pd.Series(dtype=object),
            "caption": pd.Series(dtype=object),
        }
    )


def attribute_row(instance: Instance | None, names: dict[int, str]) -> dict[str, Any]:
    """Return the row of one handle in a Labels layer's features; None: no instance has it now.

    Parameters
    ----------
    instance
        The instance.
    names
        Category id → name.
    """
    if instance is None:
        return {"category": None, "score": np.nan, "area": 0, "state": None, "source": None}
    return {
        "category": names[instance.category_id],
        "score": instance.score,
        "area": instance.area,
        "state": instance.state.value,
        "source": instance.source,
    }


def attribute_rows(
    instances: Iterable[Instance | None], names: dict[int, str]
) -> dict[str, list[Any]]:
    """Return `attribute_row` of several handles, by column."""
    rows = [attribute_row(instance, names) for instance in instances]
    return {name: [row[name] for row in rows] for name in attribute_row(None, names)}


def box_caption(category: str, score: float) -> str:
    """Return what stands at an instance's box."""
    return f"{category} (drawn)" if np.isnan(score) else f"{category} {score:.2f}"


def _attribute_table(instances: InstanceSet) -> pd.DataFrame:
    names = {c.id: c.name for c in instances.categories.categories}
    return pd.DataFrame(
        {
            "category": pd.Series([names[int(i)] for i in instances.category_ids], dtype=object),
            "score": instances.scores,
            "area": instances.areas,
            "state": pd.Series([s.value for s in instances.states], dtype=object),
            "source": pd.Series(list(instances.sources), dtype=object),
        }
    )


def changed_cells(
    table: pd.DataFrame, written: pd.DataFrame, column: str
) -> Iterator[tuple[int, str]]:
    """Return the rows of a column in which a text differs from what was written, and the text.

    Rows are compared by position; empty cells are left out.
    """
    if column not in table or column not in written:
        return
    count = min(len(table), len(written))
    now = table[column].to_numpy(object)[:count]
    before = written[column].to_numpy(object)[:count]
    for row in np.flatnonzero((now != before) & ~pd.isna(now)):
        yield int(row), str(now[row])


def is_same_table(table: pd.DataFrame, written: pd.DataFrame) -> bool:
    """Return whether a table holds what was written; columns of others do not count."""
    if len(table) != len(written) or not set(written.columns) <= set(table.columns):
        return False
    for column in written:
        now, before = table[column].to_numpy(object), written[column].to_numpy(object)
        if ((now != before) & ~(pd.isna(now) & pd.isna(before))).any():
            return False
    return True


def with_other_columns(table: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of a table with the columns that only another one has, matched by handle.

    A table without handles has one row a handle from 0 on, or names them in ``index`` as napari
    does for Labels layers.
    """
    names = [name for name in other.columns if name not in (*table.columns, "index")]
    if not names:
        return table.copy()
    key = next((name for name in ("handle", "index") if name in other.columns), None)
    handles = np.arange(len(other)) if key is None else other[key].to_numpy()
    known = other[names].set_axis(handles)
    return table.join(known[~known.index.duplicated()], on="handle")
