"""The card of one instance: what it looks like and what is known about it."""

from typing import Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QLabel,
    QSizePolicy,
    QWidget,
)
from superqt import QElidingLabel
from superqt.utils import signals_blocked

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance
from napari_deeppixel.edits.diff import Region
from napari_deeppixel.edits.draft import InstanceRef
from napari_deeppixel.edits.session import Applied
from napari_deeppixel.viewer.colors import state_colors
from napari_deeppixel.viewer.crop import (
    as_shown,
    crop_region,
    magnified,
    shown_channel,
    with_outline,
)
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.viewer.read_layer import layer_to_image
from napari_deeppixel.widgets.controls import Note, combo, named, single_shot
from napari_deeppixel.widgets.instance_model import source_name
from napari_deeppixel.widgets.links import Links
from napari_deeppixel.widgets.thumbnails import as_qimage
from napari_deeppixel.widgets.worker import BackgroundTask

_SIDE = 140
_RENEW_MS = 30

# what was read: the plane and region, and the pixels (h, w, C)
_Crop = tuple[tuple[PlaneIndex, Region], NDArray[Any]]


class InstanceCard(QWidget):
    """Shows one instance, and lets a person change its category.

    It follows the session and the contrast of the image.

    Signals
    -------
    category_chosen
        Name of the category that a person chose or typed; it may be a new one.
    """

    category_chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view: InstanceLayers | None = None
        self._ref: InstanceRef | None = None
        self._reason = ""
        self._crop: _Crop | None = None
        self._links = Links()
        self.destroyed.connect(self._links.close)
        self._reading = BackgroundTask(self)
        self._reading.yielded.connect(self._on_read)
        self._reading.failed.connect(self._on_failed)
        self._timer = single_shot(self, _RENEW_MS, self._renew)
        self._build()
        self.clear()

    # -- building -----------------------------------------------------------------------------

    def _build(self) -> None:
        self._picture = named(QLabel(), "card.picture", "The instance in its image.")
        self._picture.setFixedSize(_SIDE + 2, _SIDE + 2)
        self._picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._picture.setWordWrap(True)
        self._picture.setStyleSheet(
            "QLabel#card\\.picture { background: #16181c; border: 1px solid #5a626c; }"
        )
        self._category = combo("card.category", "Its category: choose one, or type a new one.")
        self._category.setMinimumContentsLength(8)
        self._category.setEditable(True)
        self._category.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self._category.activated.connect(self._on_category)
        edit = self._category.lineEdit()
        assert edit is not None  # the combo is editable
        edit.returnPressed.connect(self._on_category)
        self._title = named(QLabel(), "card.title")
        self._score = named(QLabel(), "card.score", "How sure the model is (0 to 1).")
        self._area = named(QLabel(), "card.area", "Area of the mask.")
        self._state = named(QLabel(), "card.state", "What a person has said about it.")
        self._source = named(QElidingLabel(), "card.source")
        self._note = Note("card.reason", lines=1)
        self._lay_out()

    def _lay_out(self) -> None:
        self._facts = QWidget()
        form = QFormLayout(self._facts)
        form.setContentsMargins(4, 0, 0, 0)
        form.setVerticalSpacing(3)
        form.setHorizontalSpacing(8)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow(self._title)
        form.addRow(self._category)
        for caption, label in (
            ("Score", self._score),
            ("Area", self._area),
            ("State", self._state),
            ("Source", self._source),
        ):
            # long texts must not widen the dock; names are no markup
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            is_text = label is not self._state
            label.setTextFormat(Qt.TextFormat.PlainText if is_text else Qt.TextFormat.RichText)
            form.addRow(caption, label)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(4)
        grid.addWidget(self._picture, 0, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self._facts, 0, 1)
        grid.addWidget(self._note, 1, 0, 1, 2)
        grid.setColumnStretch(1, 1)

    # -- which instance -----------------------------------------------------------------------

    def show_instance(self, view: InstanceLayers, ref: InstanceRef, reason: str = "") -> None:
        """Show an instance.

        Parameters
        ----------
        view
            Its layers.
        ref
            Plane index and uuid. An instance that is not there (any more) clears the card.
        reason
            Why it is looked at.
        """
        if view is not self._view:
            self._follow(view)
        edit = self._category.lineEdit()
        if ref != self._ref and edit is not None:
            # what was begun to be typed was meant for the other one
            edit.setModified(False)
        self._ref, self._reason = ref, reason
        self._renew()

    def clear(self) -> None:
        """Show nothing, and let go of the session."""
        self._follow(None)
        self._ref, self._reason = None, ""
        self._show_nothing()

    def closeEvent(self, event: Any) -> None:
        """Stop reading, and let go of the session."""
        self.clear()
        super().closeEvent(event)

    def _follow(self, view: InstanceLayers | None) -> None:
        self._links.close()
        self._timer.stop()
        self._view, self._crop = view, None
        if view is None:
            return
        self._links.connect(view.session.changed, self._on_changed)
        self._links.connect(view.session.categories_changed, self._on_categories_changed)
        events = view.image.events
        for signal in (events.contrast_limits, events.gamma, events.colormap):
            self._links.connect(signal, self._on_contrast)
        self._links.connect(events.data, self._on_pixels)

    def _on_changed(self, applied: Applied) -> None:
        if any((c.index, c.uuid) == self._ref for c in applied.action.changes):
            self._timer.start()

    def _on_categories_changed(self) -> None:
        self._timer.start()

    def _on_contrast(self) -> None:
        self._timer.start()

    def _on_pixels(self) -> None:
        self._crop = None
        self._timer.start()

    def _instance(self) -> Instance | None:
        if self._view is None or self._ref is None:
            return None
        return self._view.session.get(*self._ref)

    def _renew(self) -> None:
        instance = self._instance()
        if instance is None or self._view is None or self._ref is None:
            self._show_nothing()
            return
        self._facts.setEnabled(True)
        self._show_facts(instance, self._view)
        self._show_picture(instance, self._view, self._ref[0])

    def _show_nothing(self) -> None:
        self._reading.abandon()
        self._crop = None
        self._facts.setEnabled(False)
        self._picture.setText("select an instance")
        with signals_blocked(self._category):
            self._category.clear()
        for label in (self._title, self._score, self._area, self._state, self._source):
            label.setText("")
        self._note.say("")

    # -- facts --------------------------------------------------------------------------------

    def _show_facts(self, instance: Instance, view: InstanceLayers) -> None:
        self._title.setText(f"Instance {instance.handle}" if instance.handle else "Instance")
        self._show_category(instance, view)
        self._score.setText(
            "drawn, no score" if np.isnan(instance.score) else f"{instance.score:.2f}"
        )
        physical = physical_area(view.image, instance.area)
        self._area.setText(f"{instance.area:,} px" + (f"\n{physical}" if physical else ""))
        # a square of the colour that the state has on the canvas
        color = state_colors()[instance.state]
        self._state.setText(f'<span style="color: {color}">■</span> {instance.state.value}')
        self._source.setText(source_name(instance.source) or "unknown")
        self._source.setToolTip(f"Made by {instance.source}" if instance.source else "")
        self._note.say(self._reason)

    def _show_category(self, instance: Instance, view: InstanceLayers) -> None:
        names = [category.name for category in view.session.categories.categories]
        edit = self._category.lineEdit()
        assert edit is not None  # the combo is editable
        typed = edit.text() if edit.hasFocus() and edit.isModified() else None
        with signals_blocked(self._category):
            if [self._category.itemText(n) for n in range(self._category.count())] != names:
                self._category.clear()
                for n, category in enumerate(view.session.categories.categories):
                    self._category.addItem(category.name)
                    color = QColor(category.color)
                    self._category.setItemData(n, color, Qt.ItemDataRole.DecorationRole)
            name = view.session.categories.name_of(instance.category_id)
            self._category.setCurrentIndex(names.index(name) if name in names else -1)
            self._category.setEditText(name if typed is None else typed)
            edit.setModified(typed is not None)

    def _on_category(self, *_index: int) -> None:
        instance = self._instance()
        name = self._category.currentText().strip()
        if instance is None or self._view is None:
            return
        edit = self._category.lineEdit()
        assert edit is not None  # the combo is editable
        edit.setModified(False)
        # Enter on a known name comes here twice
        if name and name != self._view.session.categories.name_of(instance.category_id):
            self.category_chosen.emit(name)
        # whoever listens may have refused
        self._renew()

    # -- picture ------------------------------------------------------------------------------

    def _show_picture(self, instance: Instance, view: InstanceLayers, index: PlaneIndex) -> None:
        region = crop_region(instance.box_xyxy, view.session.image_hw)
        if self._crop is not None and self._crop[0] == (index, region):
            self._draw(instance, view, self._crop)
            return
        self._reading.abandon()
        try:
            image = layer_to_image(view.image, channel_axis=view.channel_axis)
            if isinstance(image.pixels, np.ndarray):
                self._on_read(((index, region), image.plane(index, region_xyxy=region)))
                return
        except DeepPixelError as error:
            self._on_failed(error)
            return
        self._crop = None
        self._picture.setText("reading …")
        self._reading.start(
            lambda _cancel, _report: iter(
                [((index, region), image.plane(index, region_xyxy=region))]
            )
        )

    def _on_read(self, crop: _Crop) -> None:
        instance = self._instance()
        if instance is not None and self._view is not None:
            self._crop = crop
            self._draw(instance, self._view, crop)

    def _on_failed(self, error: BaseException) -> None:
        self._picture.setText(f"cannot be read: {error}")
        if not isinstance(error, DeepPixelError):
            raise error

    def _draw(self, instance: Instance, view: InstanceLayers, crop: _Crop) -> None:
        (_, region), pixels = crop
        ratio = self.devicePixelRatioF()
        size_hw = _picture_hw(region, view.image, round(_SIDE * ratio))
        picture = with_outline(
            as_shown(view.image, magnified(pixels, size_hw), channel=shown_channel(view)),
            instance.mask,
            region,
            color=view.session.categories.by_id(instance.category_id).color,
            thickness=2 * ratio,
        )
        pixmap = QPixmap.fromImage(as_qimage(picture))
        pixmap.setDevicePixelRatio(ratio)
        self._picture.setPixmap(pixmap)


def _picture_hw(region: Region, image: Image, side: int) -> tuple[int, int]:
    """Return the size at which a region fits a square, with the pixels' true shape."""
    x1, y1, x2, y2 = region
    height, width = np.array([y2 - y1, x2 - x1]) * np.abs(np.asarray(image.scale)[-2:])
    larger = max(height, width)
    return max(round(side * height / larger), 1), max(round(side * width / larger), 1)


def physical_area(image: Image, area_px: int) -> str:
    """Return an area in µm² as text; empty if the layer has no physical scale."""
    scale, units = np.asarray(image.scale)[-2:], image.units[-2:]
    area = area_px * float(scale[0]) * units[0] * float(scale[1]) * units[1]
    if not area.check("[length]**2"):
        return ""
    value = abs(float(area.to("micrometer**2").magnitude))
    return f"{value:,.0f} µm²" if value >= 100 else f"{value:.3g} µm²"
