"""What the Live tab says, from made figures."""

import math

from napari_deeppixel.live.meters import LiveFigures
from napari_deeppixel.widgets.live_text import figures_text, older_text

NAN = math.nan


def figures(**known: float) -> LiveFigures:
    rates = dict.fromkeys(("camera_fps", "model_fps", "screen_fps", "model_load"), NAN)
    spans = dict.fromkeys(("model_s", "result_age_s", "result_age_95_s"), NAN)
    screen = dict.fromkeys(("screen_age_s", "screen_age_95_s"), NAN)
    counts = {"num_frames": 9, "num_results": 1, "num_draws": 9, "num_skipped": 8, "num_failed": 0}
    return LiveFigures(**(rates | spans | screen | counts | known))  # type: ignore[arg-type]


def test_what_is_not_known_yet_is_a_dash_and_not_zero() -> None:
    text = figures_text(figures(camera_fps=30.2, screen_age_s=0.04, screen_age_95_s=0.06))
    assert text.splitlines() == [
        "30 camera · \u2013 model · \u2013 screen frames/s",
        "latency 40 ms, 95 % 60 ms, instances after \u2013",
        "model busy \u2013 · 8 frames skipped",
    ]


def test_known_figures_are_numbers() -> None:
    text = figures_text(
        figures(
            camera_fps=30,
            model_fps=0.42,
            screen_fps=25,
            model_load=0.97,
            screen_age_s=0.04,
            screen_age_95_s=0.06,
            result_age_s=2.4,
        )
    )
    assert text.splitlines() == [
        "30 camera · 0.4 model · 25.0 screen frames/s",
        "latency 40 ms, 95 % 60 ms, instances after 2.4 s",
        "model busy 97 % · 8 frames skipped",
    ]


def test_instances_that_are_much_older_come_with_what_to_do() -> None:
    assert older_text(0.12) == "live · instances (amber, fading) are 120 ms older than the frame"
    assert older_text(4.5) == (
        "live · instances (amber, fading) are 4.5 s older than the frame. For frames with their "
        "own instances, but fewer: Advanced, Show"
    )
