"""Which instance a person clicked in a Labels layer."""

from collections.abc import Generator
from typing import Any

import numpy as np
from napari.layers import Labels

# on the canvas: a hand moves a little while it clicks
_STILL_PX = 4


def clicked_handle(layer: Labels, event: Any) -> Generator[None, None, int]:
    """Return the number under a click with the left button, 0 if there is none or it was a drag.

    A part of one of napari's mouse drag callbacks: it begins with the press, and goes on with
    each move and the release.
    """
    if event.button != 1:
        return 0
    # napari's event goes on to change
    place, view, shown = event.position, event.view_direction, event.dims_displayed
    pos = np.array(event.pos)
    yield
    while event.type == "mouse_move":
        if np.abs(np.subtract(event.pos, pos)).max() > _STILL_PX:
            return 0
        yield
    value = layer.get_value(place, view_direction=view, dims_displayed=shown, world=True)
    return int(value or 0)
