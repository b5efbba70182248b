"""What the Live tab says about a run."""

import math

from napari_deeppixel.live.meters import LiveFigures
from napari_deeppixel.live.status import LiveState, LiveStatus
from napari_deeppixel.widgets.controls import AMBER, RED

# from here on instances lie somewhere else if anything moves
_LONG_S = 1.5
_UNKNOWN = "\u2013"


def status_text(status: LiveStatus) -> tuple[str, str]:
    """Return what to say of a source, and in which colour."""
    more = f": {status.message}" if status.message else ""
    match status.state:
        case LiveState.IDLE:
            return "", ""
        case LiveState.FAILED:
            return status.message, RED
        case LiveState.STALLED:
            return f"stalled{more}. The last frame is shown.", AMBER
        case LiveState.RECONNECTING:
            return f"reconnecting, try {max(1, status.attempt)}{more}", AMBER
        case LiveState.OPENING:
            return "opening…", ""
        case _:
            return f"{status.state.value}{more}", ""


def figures_text(figures: LiveFigures) -> str:
    """Return rates, latency, skipped frames and load as up to three lines."""
    lines = [
        f"{_number(figures.camera_fps, '.0f')} camera · {_number(figures.model_fps, '.1f')} model"
        f" · {_number(figures.screen_fps, '.1f')} screen frames/s",
    ]
    if not math.isnan(figures.screen_age_s):
        lines.append(
            f"latency {span_text(figures.screen_age_s)}, 95 % {span_text(figures.screen_age_95_s)},"
            f" instances after {span_text(figures.result_age_s)}"
        )
        lines.append(
            f"model busy {_number(100 * figures.model_load, '.0f', ' %')} · "
            f"{figures.num_skipped:,} frames skipped"
        )
    return "\n".join(lines)


def older_text(lag_s: float) -> str:
    """Return what to say of instances that are so many seconds older than their frame."""
    text = f"live · instances (amber, fading) are {span_text(lag_s)} older than the frame"
    if lag_s < _LONG_S:
        return text
    return f"{text}. For frames with their own instances, but fewer: Advanced, Show"


def span_text(seconds: float) -> str:
    """Return a span of time with its unit; a dash for NaN."""
    if math.isnan(seconds):
        return _UNKNOWN
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _number(value: float, form: str, unit: str = "") -> str:
    return _UNKNOWN if math.isnan(value) else format(value, form) + unit
