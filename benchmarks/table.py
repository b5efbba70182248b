"""What the table of instances costs the window.

``xvfb-run python benchmarks/table.py [--instances 10000]``: CPU milliseconds of the GUI thread
(median of five), with half of the instances selected where a selection has to be kept. Colours:
what it takes to give all instances in a Labels layer new ones.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.colors import ColorBy, ColorKeeper
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.widgets.instance_rows import COLUMNS, Column
from napari_deeppixel.widgets.instance_table import InstanceTable

ROUNDS = 5
STEP = 20


def make_view(count: int) -> InstanceLayers:
    """Return layers of so many discs of 12 px on one plane."""
    table = CategoryTable.from_names("nucleus", "debris")
    across = int(np.ceil(np.sqrt(count)))
    y, x = np.ogrid[-6:7, -6:7]
    disc = y**2 + x**2 <= 36
    side = STEP * across + 16
    random = np.random.default_rng(0)
    instances = InstanceSet(
        image_hw=(side, side),
        masks=tuple(
            CroppedMask(pixels=disc, y=STEP * (n // across), x=STEP * (n % across))
            for n in range(count)
        ),
        categories=table,
        category_ids=random.integers(1, 3, count),
        scores=random.random(count),
        sources=("nuclei@0123456789ab",) * count,
    )
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((side, side), np.uint8), name="image")
    session = AnnotationSession((side, side), table)
    session.add_predictions((), instances)
    view = InstanceLayers(viewer, image, session)
    for _ in view.redraw():
        pass
    return view


def change_state(view: InstanceLayers, uuid: str, state: InstanceState) -> None:
    """Set the state of one instance."""
    before = view.session.get((), uuid)
    assert before is not None
    change = Change(index=(), before=before, after=replace(before, state=state))
    view.session.apply(Action(name="state", changes=(change,)))


def cost_ms(do: Callable[[], Any], prepare: Callable[[], Any] = lambda: None) -> float:
    """Return the median milliseconds of the GUI thread that a call and its repaint take."""
    times = []
    for _ in range(ROUNDS):
        prepare()
        QApplication.processEvents()
        start = time.thread_time()
        do()
        QApplication.processEvents()
        times.append(1000 * (time.thread_time() - start))
    return statistics.median(times)


def print_table_costs(view: InstanceLayers, count: int) -> None:
    """Print what each thing that a person or the session does to the table takes."""
    widget = InstanceTable()
    widget.resize(340, 400)
    widget.show()
    header = widget._table.horizontalHeader()
    assert header is not None
    descending, ascending = Qt.SortOrder.DescendingOrder, Qt.SortOrder.AscendingOrder
    print(f"{count:,} instances | ms")
    print(f"set_view | {cost_ms(lambda: widget.set_view(view), lambda: widget.set_view(None)):.1f}")
    print(f"select all | {cost_ms(widget._table.selectAll, widget._table.clearSelection):.1f}")
    half = widget.shown_refs()[: count // 2]
    widget.select(half)
    print(f"reset (visibility changed) | {cost_ms(widget._fill):.1f}")
    for column in (Column.SCORE, Column.CATEGORY, Column.SOURCE):
        section = COLUMNS.index(column)
        took = cost_ms(
            lambda section=section: header.setSortIndicator(section, descending),
            lambda section=section: header.setSortIndicator(section, ascending),
        )
        print(f"sort by {column.value} | {took:.1f}")

    def set_filter(text: str) -> None:
        widget._filter.setText(text)
        widget._on_filter()

    took = cost_ms(lambda: set_filter("score < 0.6 and area > 50"), lambda: set_filter(""))
    print(f"filter | {took:.1f}")
    print(f"filter off | {cost_ms(lambda: set_filter(''), lambda: set_filter('score < 0.6')):.1f}")
    rows = view.session.visible(()).uuids
    states = iter([InstanceState.ACCEPTED, InstanceState.UNSURE] * 20)
    took = cost_ms(widget._renew_touched, lambda: change_state(view, rows[7], next(states)))
    print(f"update of one row | {took:.1f}")
    header.setSortIndicator(COLUMNS.index(Column.STATE), ascending)
    set_filter("state != rejected")
    took = cost_ms(widget._renew_touched, lambda: change_state(view, rows[7], next(states)))
    print(f"update of one row that moves, sorted and filtered | {took:.1f}")
    set_filter("")
    header.setSortIndicator(COLUMNS.index(Column.SCORE), ascending)
    some = widget.shown_refs()[100:200]
    took = cost_ms(lambda: widget.select(some), lambda: widget.select(half[:1]))
    print(f"select 100 from the canvas | {took:.1f}")
    took = cost_ms(lambda: widget.select(half), lambda: widget.select(half[:1]))
    print(f"select half from the canvas, in {count // 4:,} runs or so | {took:.1f}")
    widget.close()


def main() -> None:
    """Print one line for each thing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=10_000)
    count = parser.parse_args().instances
    _application = QApplication.instance() or QApplication([])
    view = make_view(count)
    print_table_costs(view, count)
    keeper = ColorKeeper(view)
    for by in (ColorBy.CATEGORY, ColorBy.STATE, ColorBy.SCORE, ColorBy.INSTANCE):
        took = cost_ms(
            lambda by=by: keeper.set_by(by),
            lambda by=by: keeper.set_by(
                ColorBy.INSTANCE if by is not ColorBy.INSTANCE else ColorBy.SCORE
            ),
        )
        print(f"colour by {by.value}, without the canvas | {took:.1f}")
    keeper.close()


if __name__ == "__main__":
    main()
