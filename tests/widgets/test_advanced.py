"""The form of advanced settings, without a window."""

from typing import Any

from qtpy.QtWidgets import QComboBox, QDoubleSpinBox

from napari_deeppixel.edits.rerun import Keep
from napari_deeppixel.widgets.advanced import AdvancedSettings


def test_long_entries_do_not_widen_the_form(qtbot: Any) -> None:
    form = AdvancedSettings()
    qtbot.addWidget(form)
    keep = form.findChild(QComboBox, "detect.keep")
    assert keep is not None
    longest = max(keep.fontMetrics().horizontalAdvance(choice.value) for choice in Keep)
    assert keep.minimumSizeHint().width() < longest
    before = form.minimumSizeHint().width()
    assert before <= 380
    form.set_image_axes([(0, "an axis with a name that goes on and on and on, and on after that")])
    assert form.minimumSizeHint().width() == before


def test_keeping_human_work_is_what_a_new_run_does_at_first(qtbot: Any) -> None:
    form = AdvancedSettings()
    qtbot.addWidget(form)
    assert form.keep is Keep.HUMAN


def test_the_fast_engine_runs_until_a_person_chooses_the_reference(qtbot: Any) -> None:
    form = AdvancedSettings()
    qtbot.addWidget(form)
    assert form.engine == "fast"
    field = form.findChild(QComboBox, "detect.engine")
    assert field is not None
    field.setCurrentText("reference")
    assert form.engine == "reference"


def test_the_magnification_is_the_model_s_own_until_a_person_sets_one(qtbot: Any) -> None:
    form = AdvancedSettings()
    qtbot.addWidget(form)
    field = form.findChild(QDoubleSpinBox, "detect.zoom")
    assert field is not None
    assert field.text() == "as trained"
    assert form.options(1, 0.5).zoom is None
    field.setValue(1.5)
    assert form.options(1, 0.5).zoom == 1.5
    field.setValue(0)
    assert form.options(1, 0.5).zoom is None
