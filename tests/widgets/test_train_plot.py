"""The plot of lines over steps."""

import math
import time
from typing import Any

import pytest

from napari_deeppixel.widgets.train_plot import CurvePlot


@pytest.fixture
def plot(qtbot: Any) -> CurvePlot:
    plot = CurvePlot("plot", {"a": "#ff0000", "b": "#0000ff"}, tooltip="about it")
    qtbot.addWidget(plot)
    plot.resize(300, 100)
    return plot


def has_color(plot: CurvePlot, color: str) -> bool:
    image = plot.grab().toImage()
    return any(
        image.pixelColor(x, y).name() == color
        for x in range(image.width())
        # not the names below
        for y in range(image.height() - 25)
    )


def test_values_that_are_no_numbers_are_left_out(plot: CurvePlot) -> None:
    plot.show_lines({"a": {3: 1.0, 1: 2.0, 2: math.nan}})
    assert plot.lines == {"a": ((1, 2.0), (3, 1.0)), "b": ()}


def test_a_line_is_drawn_in_its_colour(plot: CurvePlot) -> None:
    plot.show_lines({"a": {0: 1.0, 100: 1.0}})
    assert has_color(plot, "#ff0000")
    assert not has_color(plot, "#0000ff")


def test_an_empty_plot_is_drawn(plot: CurvePlot) -> None:
    plot.show_lines({})
    assert not has_color(plot, "#ff0000")


def test_the_mouse_tells_the_nearest_values(plot: CurvePlot) -> None:
    plot.show_lines({"a": {0: 1.0, 100: 0.5}, "b": {90: 0.25}}, iterations=100)
    assert plot.text_at(plot.width() - 5) == "a 0.500 at step 100\nb 0.250 at step 90"


def test_the_mouse_far_from_all_values_tells_what_is_shown(plot: CurvePlot) -> None:
    plot.show_lines({"a": {0: 1.0}}, iterations=100)
    assert plot.text_at(plot.width() - 5) == "about it"


def test_the_first_steps_do_not_flatten_the_rest(plot: CurvePlot) -> None:
    losses = dict.fromkeys(range(100), 1.0) | {0: 50.0}
    plot.show_lines({"a": losses})
    assert plot.top == pytest.approx(1.1)


def test_a_run_of_days_is_drawn_in_no_time(plot: CurvePlot) -> None:
    plot.show_lines({"a": {at: 1 + at % 7 for at in range(100_000)}})
    assert len(plot.lines["a"]) == 400
    assert plot.lines["a"][0] == (124, pytest.approx(4, abs=0.1))
    begun = time.perf_counter()
    plot.grab()
    assert time.perf_counter() - begun < 0.05
