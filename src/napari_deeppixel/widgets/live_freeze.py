"""Live frames that were taken out of the stream, to be corrected."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from napari.layers import Image

from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.track import MAX_ID
from napari_deeppixel.viewer.layers import InstanceLayers


class FrozenFrames:
    """Images of a viewer that were frames of a live source, each with a session of its own.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._views: list[InstanceLayers] = []

    def add(
        self, result: LiveResult, *, source: str, score: float, metadata: Mapping[str, Any]
    ) -> InstanceLayers:
        """Put a frame into the viewer as an image with its instances, which are not drawn yet.

        Instances that are shown keep their track's number, and with it their colour.

        Parameters
        ----------
        result
            The frame.
        source
            What the camera is called.
        score
            Lowest score that is shown at first.
        metadata
            Model and settings, for the layers.
        """
        pixels = result.frame.pixels
        name = f"{source} {time.strftime('%H.%M.%S')} frame {result.frame.number}"
        image = Image(pixels.copy(), rgb=pixels.ndim == 3 and pixels.shape[2] in (3, 4), name=name)
        self._viewer.add_layer(image)
        categories = result.instances.categories
        session = AnnotationSession(result.frame.image_hw, categories)
        view = InstanceLayers(self._viewer, image, session)
        session.set_visibility(score=score, min_area=1)
        view.metadata = dict(metadata)
        session.apply(found_action(result, session))
        self._views.append(view)
        return view

    def hide(self) -> None:
        """Hide all: they would lie over what comes; nothing is lost."""
        for view in self._views:
            for layer in (view.image, *view.layers):
                if layer in self._viewer.layers:
                    layer.visible = False
        self._views = [view for view in self._views if view.image in self._viewer.layers]


def found_action(result: LiveResult, session: AnnotationSession) -> Action:
    """Return what puts all that a model found in a frame into a session of that frame.

    `AnnotationSession.add_predictions` would number the instances anew.
    """
    prediction = result.prediction
    found = result.instances if prediction is None else prediction.candidates
    changes = []
    for instance in found:
        # hidden ones get their number when they are first shown, as everywhere
        is_numbered = instance.handle <= MAX_ID and session.is_to_show(instance)
        # the same object of another frame is another instance on the disk
        after = replace(instance, handle=instance.handle if is_numbered else 0, uuid=str(uuid4()))
        changes.append(Change(index=(), before=None, after=after))
    return Action(name="run the model", changes=tuple(changes))
