"""Opens results in a napari window: ``python -m napari_deeppixel.viewer.open FILES…``."""

import sys
from collections.abc import Sequence
from typing import Any


def open_results(paths: Sequence[str]) -> Any:
    """Return a napari viewer with COCO files or label TIFFs opened by our reader."""
    # imported here: a window needs a display, which the rest of this package does without
    import napari

    from napari_deeppixel.viewer.reader import read_layers

    viewer = napari.Viewer(title="napari-deeppixel")
    for path in paths:
        for data, settings, kind in read_layers(path):
            getattr(viewer, f"add_{kind}")(data, **settings)
    for position, layer in enumerate(viewer.layers):
        # one image at a time; the eye icons bring the others back
        layer.visible = position < 3
    return viewer


def main(paths: Sequence[str]) -> None:
    """Open the files and wait until the window is closed."""
    import napari

    open_results(paths)
    napari.run()


if __name__ == "__main__":
    main(sys.argv[1:])
