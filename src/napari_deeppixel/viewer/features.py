"""The features tables of our layers: one reader and one writer."""

from typing import Any

import numpy as np
import pandas as pd

from napari_deeppixel.core.instance import Instance, InstanceSet


def labels_features(sets: list[InstanceSet]) -> pd.DataFrame:
    """Return the features table of a Labels layer: row n is handle n, row 0 the background.

    Handles that no instance has now have an empty row.
    """
    rows = 1 + max((int(s.handles.max(initial=0)) for s in sets), default=0)
    table = pd.DataFrame(
        {
            "handle": np.arange(rows),
            "category": pd.Series([None] * rows, dtype=object),
            "score": np.full(rows, np.nan),
            "area": np.zeros(rows, np.int64),
            "state": pd.Series([None] * rows, dtype=object),
            "source": pd.Series([None] * rows, dtype=object),
        }
    )
    for instances in sets:
        if len(instances):
            table.loc[instances.handles, list(table)[1:]] = _attribute_table(instances).to_numpy()
    return table


def boxes_features(sets: list[InstanceSet]) -> pd.DataFrame:
    """Return the features table of a Shapes layer: one row a box."""
    tables = []
    for instances in sets:
        table = _attribute_table(instances)
        table.insert(0, "handle", instances.handles)
        table["caption"] = [
            box_caption(category, score)
            for category, score in zip(table["category"], table["score"], strict=True)
        ]
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


def read_attributes(features: pd.DataFrame) -> dict[int, tuple[str, str]]:
    """Return handle → (category, state) of a Labels layer's features; {} if it has neither."""
    if not {"category", "state"} <= set(features.columns):
        return {}
    return {
        handle: (str(category), str(state))
        for handle, (category, state) in enumerate(
            zip(features["category"], features["state"], strict=True)
        )
        if handle
    }
