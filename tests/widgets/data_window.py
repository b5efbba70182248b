"""The dock widget with its Data tab on a viewer, and datasets that a person can check by hand."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from tests.widgets.dock_window import DockWindow
from tests.widgets.review_window import HW, SQUARES, TABLE, squares

from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.layers import InstanceLayers, instance_layers_of


def square_mask(name: str) -> CroppedMask:
    """Return the 10 x 10 px mask of one of `SQUARES`."""
    y, x, _ = SQUARES[name]
    return CroppedMask(pixels=np.ones((10, 10), np.bool_), y=y, x=x)


def annotated(*names: str, state: InstanceState = InstanceState.ACCEPTED) -> AnnotatedImage:
    """Return the annotation of `squares` with some of them; uuids are their names."""
    instances = InstanceSet(
        image_hw=HW,
        masks=tuple(square_mask(name) for name in names),
        categories=TABLE,
        uuids=names,
        states=(state,) * len(names),
        scores=np.full(len(names), 0.9),
    )
    return AnnotatedImage.of("any.png", instances)


def write_image(path: Path, brightness: int = 0) -> Path:
    """Write `squares` as a PNG of its own content."""
    pixels = squares()
    pixels[0, 0] = brightness
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path)
    return path


def made_dataset(folder: Path) -> Dataset:
    """Return three images: 1 complete with a and b, 2 a draft with a unreviewed, 10 not begun."""
    dataset = Dataset.create(folder / "set", categories=TABLE)
    one, two, ten = (write_image(folder / f"{n}.png", n) for n in (1, 2, 10))
    dataset.add_file(one, planes=[annotated("a", "b")], state=ImageState.COMPLETE)
    draft = annotated("a", state=InstanceState.UNREVIEWED)
    dataset.add_file(two, planes=[draft], state=ImageState.DRAFT)
    dataset.add_file(ten)
    return dataset


class DataWindow(DockWindow):
    """The dock widget beside a viewer, with the Data tab open."""

    def __init__(self, qtbot: Any, viewer: Any, *, has_window: bool = False) -> None:
        super().__init__(qtbot, viewer, has_window=has_window)
        self.data, self.journals = self.dock.data, self.dock.journals
        self.panels, self.switcher = self.data.panels, self.data.switcher
        self.dock.tabs.setCurrentWidget(self.data)

    def settle(self) -> None:
        """Wait until nothing is under way."""
        data, run = self.data, self.dock.detect.run

        def is_quiet() -> bool:
            current = self.switcher.current
            return not (
                data.queue.current is not None
                or data.reader._task.is_running
                or self.switcher.is_busy
                or run.steps.is_running
                or (current is not None and current.is_saving)
            )

        self.wait(is_quiet)

    def open_dataset(self, dataset: Dataset) -> None:
        self.data.import_path(dataset.path)
        self.wait(lambda: self.dock.datasets.dataset is not None)
        self.settle()

    def open(self, image_id: str) -> None:
        """Open an image, and wait until it is drawn and its journal is open."""
        self.data.open_image(image_id)
        self.wait(lambda: self.open_id == image_id and not self.switcher.is_busy)
        self.settle()
        current = self.switcher.current
        assert current is not None
        self.wait(lambda: self.journals.state(current.layer) is not None)

    @property
    def open_id(self) -> str:
        return self.data._open_id

    @property
    def view(self) -> InstanceLayers:
        assert self.switcher.current is not None
        assert self.switcher.current.view is not None
        return self.switcher.current.view

    @property
    def session(self) -> AnnotationSession:
        return self.view.session

    def view_of_layer(self, name: str) -> InstanceLayers:
        view = instance_layers_of(self.viewer.layers[name])
        assert view is not None
        return view

    def draw(self, y: int, x: int, side: int = 4) -> None:
        """Paint a new square, as a finished stroke."""
        labels = self.view.labels_layers[0]
        rows, columns = np.mgrid[y : y + side, x : x + side]
        with labels.block_history():
            labels.data_setitem((rows.ravel(), columns.ravel()), self.session.next_handle)
        self.view.settle_all()

    def rows(self) -> list[str]:
        model = self.data.browser.model
        return [model.entry_at(row).image_id for row in range(model.rowCount())]

    @property
    def status(self) -> str:
        return str(self.panels.status.text())

    @property
    def saved_line(self) -> str:
        return str(self.panels.saved.text())


def uuids_on_disk(dataset: Dataset, image_id: str) -> set[str]:
    return {uuid for plane in dataset.load(image_id).planes for uuid in plane.instances.uuids}
