"""The advanced settings of a run, a form of magicgui fields."""

from typing import Any, get_args

from magicgui.widgets import ComboBox, FloatSpinBox, LineEdit, SpinBox
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QVBoxLayout, QWidget

from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.edits.rerun import Keep
from napari_deeppixel.engine.base import DEFAULT_MAX_INSTANCES, EngineKind, PredictOptions
from napari_deeppixel.viewer.layers import LabelsMode
from napari_deeppixel.widgets.controls import RED, Note, named

_MODEL_OWN = "as the model was trained"
_FIXED_RANGE = "fixed range"
_NORMALIZATIONS = {
    _MODEL_OWN: None,
    "percentiles": "percentile",
    _FIXED_RANGE: "range",
    "lowest to highest": "auto",
}
_NO_AXIS = "none"
# that a combo box has room for at least
_COMBO_LETTERS = 12


class AdvancedSettings(QWidget):
    """Channels, normalisation, thresholds, limits, engine, precision, the kind of Labels layers.

    Signals
    -------
    changed
        Something was changed.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._channel_axis = _field(
            ComboBox,
            "channel_axis",
            "Channel axis",
            "Axis of the image that holds channels. RGB layers need none.",
            choices=[_NO_AXIS],
        )
        self._channels = _field(
            LineEdit,
            "channels",
            "Channels",
            "Which channels feed the model: one number for all of its inputs, or three separated "
            "by commas. Channels count from 0. Empty: RGB where there is colour, else the first.",
        )
        self._normalization = _field(
            ComboBox,
            "normalization",
            "Brightness",
            "How intensities are brought to the range that the model was trained on.",
            choices=list(_NORMALIZATIONS),
        )
        self._low = _field(
            FloatSpinBox,
            "low",
            "Black",
            "What becomes black: a percentile (0 to 100), or an intensity.",
            value=1.0,
            min=-1e9,
            max=1e9,
        )
        self._high = _field(
            FloatSpinBox,
            "high",
            "White",
            "What becomes white: a percentile (0 to 100), or an intensity.",
            value=99.8,
            min=-1e9,
            max=1e9,
        )
        self._zoom = zoom_field("detect.zoom")
        self._mask_threshold = _field(
            FloatSpinBox,
            "mask_threshold",
            "Mask threshold",
            "Probability (0 to 1) from which a pixel belongs to the object. Lower: larger masks.",
            value=0.5,
            min=0.05,
            max=0.95,
            step=0.05,
        )
        self._box_nms = _field(
            FloatSpinBox,
            "box_nms",
            "Box overlap",
            "Of two boxes of one category that overlap more than this (IoU, 0 to 1), the lower "
            "score is dropped. Raise it for objects that lie on top of each other.",
            value=0.5,
            min=0.05,
            max=1.0,
            step=0.05,
        )
        self._max_instances = _field(
            SpinBox,
            "max_instances",
            "Max instances",
            "Most instances in a plane. You are told when the limit is reached.",
            value=DEFAULT_MAX_INSTANCES,
            min=1,
            max=100_000,
            step=100,
        )
        self._min_area = _field(
            SpinBox,
            "min_area",
            "Min area (px)",
            "Smaller instances, in pixels, are not shown.",
            value=1,
            min=1,
            max=1_000_000,
        )
        self._engine = _field(
            ComboBox,
            "engine",
            "Engine",
            "fast, or reference: torchvision's own computation, slower; in fp32 with the same "
            "result.",
            choices=list(get_args(EngineKind)),
        )
        self._precision = _field(
            ComboBox,
            "precision",
            "Precision",
            "auto: half precision on NVIDIA GPUs, full elsewhere. On a CPU, bf16 is faster where "
            "the processor has it, with nearly the same result, and fp16 is slow. Boxes are always "
            "computed in full precision.",
            choices=["auto", "fp32", "bf16", "fp16"],
        )
        self._labels_mode = _field(
            ComboBox,
            "labels_mode",
            "Layers",
            "How instances are spread over Labels layers.",
            choices=[mode.value for mode in LabelsMode],
        )
        self._keep = _field(
            ComboBox,
            "keep",
            "A new run",
            "What a new run leaves as it is. Anything but the first asks before it replaces what "
            "you did, and can be undone.",
            choices=[keep.value for keep in Keep],
        )
        self._fields = (
            self._channel_axis,
            self._channels,
            self._normalization,
            self._low,
            self._high,
            self._zoom,
            self._mask_threshold,
            self._box_nms,
            self._max_instances,
            self._min_area,
            self._engine,
            self._precision,
            self._labels_mode,
            self._keep,
        )
        self._axis_numbers: dict[str, int] = {}
        self._lay_out()
        self._follow_normalization()
        self._normalization.changed.connect(self._on_normalization_changed)
        for field in self._fields:
            field.changed.connect(self._on_changed)

    def _lay_out(self) -> None:
        self._channels_error = Note("detect.channels_error", color=RED)
        self._normalization_error = Note("detect.normalization_error", color=RED)
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._form.setLabelAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        for field in self._fields:
            self._form.addRow(field.label, field.native)
            if field is self._channels:
                self._form.addRow("", self._channels_error)
            if field is self._high:
                self._form.addRow("", self._normalization_error)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._form)

    def _on_normalization_changed(self) -> None:
        low, high = (0.0, 255.0) if self._normalization.value == _FIXED_RANGE else (1.0, 99.8)
        with self._low.changed.blocked(), self._high.changed.blocked():
            self._low.value, self._high.value = low, high

    def _on_changed(self) -> None:
        self._follow_normalization()
        self.changed.emit()

    def _follow_normalization(self) -> None:
        needs_limits = _NORMALIZATIONS[self._normalization.value] in (
            "percentile",
            "range",
        )
        for field in (self._low, self._high):
            self._form.setRowVisible(field.native, needs_limits)

    def set_image_axes(self, axes: list[tuple[int, str]]) -> None:
        """Offer these axes (number and caption) as the one that holds channels."""
        chosen = self._channel_axis.value
        captions = {caption: number for number, caption in axes}
        with self._channel_axis.changed.blocked():
            self._axis_numbers = captions
            self._channel_axis.choices = [_NO_AXIS, *captions]
            self._channel_axis.value = chosen if chosen in captions else _NO_AXIS
        self._channel_axis.enabled = bool(axes)

    def show_channel_axis(self, axis: int | None) -> None:
        """Show which axis holds the channels of an image that has instances."""
        captions = {number: caption for caption, number in self._axis_numbers.items()}
        with self._channel_axis.changed.blocked():
            self._channel_axis.value = _NO_AXIS if axis is None else captions.get(axis, _NO_AXIS)

    def set_model_box_nms(self, box_nms: float) -> None:
        """Show a model's own setting."""
        with self._box_nms.changed.blocked():
            self._box_nms.value = box_nms

    @property
    def channel_axis(self) -> int | None:
        """Axis of the image that holds channels; None without."""
        value = self._channel_axis.value
        return None if value in (None, _NO_AXIS) else self._axis_numbers[value]

    @property
    def engine(self) -> EngineKind:
        """Which forward runs, as `load_model` takes it."""
        kind: EngineKind = self._engine.value
        return kind

    @property
    def labels_mode(self) -> LabelsMode:
        """How instances are spread over Labels layers."""
        return LabelsMode(self._labels_mode.value)

    @property
    def keep(self) -> Keep:
        """What a new run leaves as it is."""
        return Keep(self._keep.value)

    def keep_human_work(self) -> None:
        """Go back to the safe choice: replacing is asked for one run at a time."""
        self._keep.value = Keep.HUMAN.value

    @property
    def min_area(self) -> int:
        """Smallest instance to show, in pixels."""
        return int(self._min_area.value)

    @property
    def max_instances(self) -> int:
        """Most instances in a plane."""
        return int(self._max_instances.value)

    def options(self, num_channels: int, score: float) -> PredictOptions:
        """Return the settings for an image of so many channels.

        Raises
        ------
        ValueError
            If a setting is wrong; the message says which one and why.
        """
        return PredictOptions(
            score=score,
            mask_threshold=self._mask_threshold.value,
            box_nms=self._box_nms.value,
            max_instances=self.max_instances,
            min_area=self.min_area,
            zoom=self._zoom.value or None,
            channels=_parse_channels(self._channels.value, num_channels),
            normalization=self._chosen_normalization(),
            precision=self._precision.value,
        )

    def _chosen_normalization(self) -> Normalization | None:
        mode = _NORMALIZATIONS[self._normalization.value]
        if mode is None:
            return None
        if mode == "auto":
            return Normalization(mode="auto")
        try:
            return Normalization(mode=mode, low=self._low.value, high=self._high.value)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"Brightness: {error}") from error

    def show_error(self, message: str) -> None:
        """Show below the field at fault what is wrong with it; empty: nothing is."""
        is_about_channels = message.startswith(self._channels.label)
        self._channels_error.say(message if is_about_channels else "")
        self._normalization_error.say("" if is_about_channels else message)


def zoom_field(name: str) -> Any:
    """Return a field for `PredictOptions.zoom`; its value 0 stands for the model's own."""
    tooltip = (
        "How many times the image is magnified before the model sees it. Higher finds smaller "
        "objects and finer edges, and takes longer (twice the value, about twice to four times "
        "the time); lower is faster. 0: as the model was trained."
    )
    field = FloatSpinBox(name="zoom", label="Magnify", value=0.0, min=0.0, max=10.0, step=0.5)
    spin = named(field.native, name, tooltip)
    # short: the longest text is the least width of the whole dock
    spin.setSpecialValueText("as trained")
    spin.setSuffix(" x")
    return field


def _field(kind: Any, name: str, label: str, tooltip: str, **options: Any) -> Any:
    field = kind(name=name, label=label, tooltip=tooltip, **options)
    native = named(field.native, f"detect.{name}", tooltip)
    if isinstance(native, QComboBox):
        # its longest entry would else be the least width of the whole dock
        native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        native.setMinimumContentsLength(_COMBO_LETTERS)
    return field


def _parse_channels(text: str, num_channels: int) -> tuple[int, ...] | None:
    if not text.strip():
        return None
    try:
        channels = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"Channels: expected numbers such as 0 or 2,1,0, got {text!r}") from error
    if len(channels) not in (1, 3):
        raise ValueError(f"Channels: give one number or three, got {len(channels)}")
    missing = [channel for channel in channels if not 0 <= channel < num_channels]
    if missing:
        raise ValueError(
            f"Channels: there is no channel {missing[0]}, the image has 0 to {num_channels - 1}"
        )
    return channels
