"""The parts of the Data tab: what is where, and what it is called."""

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListView,
    QMenu,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_deeppixel.widgets.controls import Note, button, combo, named
from napari_deeppixel.widgets.data_model import Show
from napari_deeppixel.widgets.review_panels import collapsible

NEXT_KEY, PREVIOUS_KEY, UNFINISHED_KEY = "Ctrl+PgDown", "Ctrl+PgUp", "Ctrl+Shift+PgDown"
_FIRST_STEPS = (
    "A dataset is a folder that keeps images with their masks: correct them here, train on them, "
    "share them.\n\n"
    "1. Make one with New…, or Open… one that is there.\n"
    "2. Drop images or folders here, or press Add for the one in the viewer.\n"
    "3. Double-click an image, correct it in Review, and mark it complete. All is saved as you go."
)
_NO_IMAGES = (
    "No images yet. Drop files or folders here, or press Add to take the one in the viewer "
    "with its instances."
)


class MenuButton(QPushButton):
    """A button with a menu.

    Parameters
    ----------
    text, name, tooltip
        Of the button.

    Attributes
    ----------
    popup
        The menu.
    """

    def __init__(self, text: str, name: str, tooltip: str) -> None:
        super().__init__(text)
        named(self, name, tooltip)
        self.popup = QMenu(self)
        self.popup.setToolTipsVisible(True)
        self.setMenu(self.popup)


class DataPanels:
    """Makes and holds the widgets of the Data tab."""

    def __init__(self) -> None:
        self.chooser = MenuButton(
            "Choose a dataset", "data.chooser", "Open or make a dataset, or one of the last ones."
        )
        self.chooser.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.chooser.setMinimumWidth(60)
        self.totals = Note("data.totals")
        self._make_empty()
        self._make_list()
        self._make_buttons()
        self._make_notes()
        self._make_advanced()

    def _make_empty(self) -> None:
        self.empty = named(QWidget(), "data.empty")
        text = Note("data.first_steps")
        text.say(_FIRST_STEPS)
        self.new_button = button("New…", "data.new", "Make a dataset in an empty folder.")
        self.open_button = button("Open…", "data.open", "Open the folder of a dataset.")
        row = QHBoxLayout()
        row.addWidget(self.new_button)
        row.addWidget(self.open_button)
        layout = QVBoxLayout(self.empty)
        layout.setContentsMargins(0, 8, 0, 0)
        layout.addWidget(text)
        layout.addLayout(row)
        layout.addStretch(1)

    def _make_list(self) -> None:
        self.filter = named(
            QLineEdit(), "data.filter", "Show the images whose name holds all of these words."
        )
        self.filter.setPlaceholderText("Filter by name")
        self.filter.setClearButtonEnabled(True)
        self.filter.setMinimumWidth(60)
        self.show = combo("data.show", "Which images the list shows.")
        self.show.setMinimumContentsLength(9)
        for show in Show:
            self.show.addItem(show.value, show)
        self.list = named(QListView(), "data.list", "")
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        # rows are not asked one by one how high they are
        self.list.setUniformItemSizes(True)
        self.list.setMinimumHeight(120)
        self.list.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.list.setMinimumSize(QSize(100, 120))
        self.no_images = Note("data.no_images")
        self.no_images.say(_NO_IMAGES)
        self.menu = QMenu(self.list)

    def _make_buttons(self) -> None:
        self.previous = button(
            "\N{BLACK LEFT-POINTING TRIANGLE}",
            "data.previous",
            f"Save, and open the previous image of the list.  Key: {PREVIOUS_KEY}",
        )
        self.next = button(
            "\N{BLACK RIGHT-POINTING TRIANGLE}",
            "data.next",
            f"Save, and open the next image of the list.  Key: {NEXT_KEY}",
        )
        self.unfinished = button(
            "Next unfinished",
            "data.unfinished",
            f"Save, and open the next image that is not complete.  Key: {UNFINISHED_KEY}",
        )
        self.add = MenuButton(
            "Add", "data.add", "Add the image in the viewer with its instances, or files."
        )
        self.add.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.complete = button(
            "Mark complete",
            "data.complete",
            "Every object of the selected images is annotated and right.",
        )
        for each in (self.previous, self.next):
            each.setFixedWidth(40)

    def _make_notes(self) -> None:
        self.saved = Note("data.saved")
        self.theirs = button(
            "Take theirs",
            "data.theirs",
            "Load what the other window saved. What you did is kept as a COCO file in the "
            "dataset's folder removed.",
        )
        self.mine = button(
            "Keep mine", "data.mine", "Save what you see in the place of what they saved."
        )
        self.retry = button("Try again", "data.retry", "Save now.")
        self.progress = named(QProgressBar(), "data.progress", "How far it is.")
        self.progress.setRange(0, 1000)
        self.cancel = button("Cancel", "data.cancel", "Stop. What is done stays.")
        self.status = Note("data.status", lines=2)
        for each in (self.theirs, self.mine, self.retry, self.progress, self.cancel):
            each.hide()

    def _make_advanced(self) -> None:
        self.copies = named(
            QCheckBox("Copy images into the dataset"),
            "data.copies",
            "Else they stay where they are, and the dataset remembers their place and content.",
        )
        self.copies.setChecked(True)
        self.check = button("Check…", "data.check", "Look for faults, and repair what is safe.")
        self.relocate = button(
            "Find moved images…",
            "data.relocate",
            "Images that stayed where they were and have moved since are found by their content.",
        )

        self.find_mistakes = button(
            "Find label mistakes…",
            "data.find_mistakes",
            "Let the model of the Detect tab look for objects that were forgotten, annotations of "
            "nothing and bad outlines in complete images of train and val, and go through them in "
            "Review. One that was trained on other images tells more.",
        )
        self.open_mistakes = button(
            "Open a list…", "data.open_mistakes", "Go through a list of label mistakes again."
        )

    # -- layouts ------------------------------------------------------------------------------

    def top(self) -> QVBoxLayout:
        """Return which dataset it is, and how far it is."""
        row = QHBoxLayout()
        row.addWidget(self.chooser, 1)
        box = QVBoxLayout()
        box.addLayout(row)
        box.addWidget(self.totals)
        return box

    def body(self, categories: QWidget) -> QWidget:
        """Return what is there while a dataset is open."""
        content = named(QWidget(), "data.body")
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(self.filter, 1)
        row.addWidget(self.show)
        self.show.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        layout.addLayout(row)
        layout.addWidget(self.no_images)
        layout.addWidget(self.list, 1)
        row = QHBoxLayout()
        row.addWidget(self.previous)
        row.addWidget(self.next)
        row.addWidget(self.unfinished, 1)
        layout.addLayout(row)
        row = QHBoxLayout()
        row.addWidget(self.add, 1)
        row.addWidget(self.complete, 1)
        layout.addLayout(row)
        layout.addWidget(self.saved)
        row = QHBoxLayout()
        for each in (self.theirs, self.mine, self.retry):
            row.addWidget(each)
        layout.addLayout(row)
        layout.addWidget(collapsible("Advanced", "data.advanced", self._advanced_box(categories)))
        return content

    def bottom(self) -> QVBoxLayout:
        """Return what is under way, and what came of it."""
        row = QHBoxLayout()
        row.addWidget(self.progress, 1)
        row.addWidget(self.cancel)
        box = QVBoxLayout()
        box.addLayout(row)
        box.addWidget(self.status)
        return box

    def _advanced_box(self, categories: QWidget) -> QWidget:
        content = QWidget()
        grid = QGridLayout(content)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.copies, 0, 0, 1, 2)
        grid.addWidget(self.check, 1, 0)
        grid.addWidget(self.relocate, 1, 1)
        grid.addWidget(self.find_mistakes, 2, 0)
        grid.addWidget(self.open_mistakes, 2, 1)
        grid.addWidget(QLabel("Categories"), 3, 0, 1, 2)
        grid.addWidget(categories, 4, 0, 1, 2)
        return content
