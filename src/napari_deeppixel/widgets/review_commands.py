"""The commands of the Review tab and their default keys."""

from collections.abc import Callable
from typing import Protocol

from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.widgets.commands import CATEGORY, Command, CommandSet
from napari_deeppixel.widgets.review_tools import ReviewTools

QUEUE, DECIDE, SHAPE, DRAW, MODEL, PLANES, REGIONS, UNDO = (
    "Queue",
    "Decide",
    "Shape",
    "Draw",
    "Model",
    "Planes",
    "Complete",
    "Undo",
)


class Walker(Protocol):
    """Goes through the queue, and hides what is not selected."""

    def go(self, step: int) -> None:
        """Go to the next instance (1) or the one before (-1)."""

    def decide(self, state: InstanceState) -> None:
        """Set a state and go on."""

    def ask_again(self) -> None:
        """Take what is suggested, or ask the model for the selected masks."""

    def toggle_others(self) -> None:
        """Hide all but the selected instances, or show them again."""


def review_commands(tools: ReviewTools, walker: Walker) -> CommandSet:
    """Return all commands, in the order in which they are shown."""

    def decide(state: InstanceState) -> Callable[[], None]:
        return lambda: walker.decide(state)

    def category(position: int) -> Callable[[], None]:
        return lambda: tools.set_nth_category(position)

    commands = [
        (
            "previous",
            "◀ Previous",
            "Go back in the queue.",
            lambda: walker.go(-1),
            "Shift-N",
            QUEUE,
        ),
        ("next", "Next ▶", "Go to the next in the queue.", lambda: walker.go(1), "N", QUEUE),
        (
            "accept",
            "Good",
            "It is right: accept, and go on.",
            decide(InstanceState.ACCEPTED),
            "G",
            DECIDE,
        ),
        (
            "reject",
            "Junk",
            "It is no object: reject, and go on. A new run does not bring it back.",
            decide(InstanceState.REJECTED),
            "J",
            DECIDE,
        ),
        (
            "unsure",
            "Unsure",
            "Leave it for later, and go on.",
            decide(InstanceState.UNSURE),
            "Q",
            DECIDE,
        ),
        ("delete", "Delete", "Delete the selected instances.", tools.delete, "Delete", DECIDE),
        (
            "hide-others",
            "Hide others",
            "Show the selected instances alone, or all again.",
            walker.toggle_others,
            "H",
            DECIDE,
        ),
        (
            "box",
            "Box → mask",
            "Drag a box round an object: the model draws the mask and names the category.",
            tools.draw_box,
            "W",
            MODEL,
        ),
        (
            "missed",
            "Add missed",
            "Click an object that was missed: takes the hidden candidate there, or asks the model.",
            tools.click_missed,
            "Shift-W",
            MODEL,
        ),
        (
            "again",
            "Ask again",
            "Ask the model again for the selected masks, in their boxes; take what it suggests "
            "about a label mistake.",
            walker.ask_again,
            "Shift-G",
            MODEL,
        ),
        (
            "lasso",
            "Lasso",
            "Trace the outline of a new object in one go.",
            tools.draw_lasso,
            "Shift-Q",
            DRAW,
        ),
        ("split", "Split", "Draw a line across an object.", tools.draw_split, "K", DRAW),
        (
            "split-points",
            "Split at points",
            "Click once in each part of the selected object, then Enter.",
            tools.draw_split_points,
            "Shift-K",
            DRAW,
        ),
        ("unite", "Unite", "Make the selected instances one.", tools.unite, "U", DRAW),
        (
            "delete-region",
            "Delete area",
            "Trace round objects: all of them are deleted.",
            tools.draw_delete_region,
            "Shift-J",
            DRAW,
        ),
        ("fill", "Fill holes", "Fill the holes of the selected masks.", tools.fill, "", SHAPE),
        (
            "specks",
            "Drop specks",
            "Remove small separate parts of the selected masks.",
            tools.remove_specks,
            "",
            SHAPE,
        ),
        (
            "smooth",
            "Smooth",
            "Smooth the outlines of the selected masks (2 px).",
            tools.smooth,
            "",
            SHAPE,
        ),
        ("grow", "Grow", "Grow the selected masks by 1 px.", tools.grow, "Shift-U", SHAPE),
        ("shrink", "Shrink", "Shrink the selected masks by 1 px.", tools.shrink, "Shift-H", SHAPE),
        (
            "copy-next",
            "Copy to next plane",
            "Copy the selected instances to the next plane, and go there.",
            tools.copy_to_next,
            "",
            PLANES,
        ),
        (
            "interpolate",
            "Interpolate",
            "Draw an object on all planes between two: click it on one plane, then on the other.",
            tools.interpolate,
            "",
            PLANES,
        ),
        (
            "complete-region",
            "Mark region",
            "Drag a rectangle in which every object is right: the rest of it is background.",
            tools.draw_complete_region,
            "",
            REGIONS,
        ),
        (
            "complete-plane",
            "Mark image",
            "Every object of this image (this plane of a stack) is right.",
            tools.complete_plane,
            "",
            REGIONS,
        ),
        (
            "complete-none",
            "Clear marks",
            "Nothing of this plane is complete.",
            tools.remove_regions,
            "",
            REGIONS,
        ),
        ("undo", "Undo", "Take the last step back.", tools.undo, "Control-Z", UNDO),
        ("redo", "Redo", "Do it again.", tools.redo, "Control-Shift-Z", UNDO),
    ]
    made = [
        Command(id=i, caption=c, tooltip=t, run=run, key=key, group=group)
        for i, c, t, run, key, group in commands
    ]
    made += [
        Command(
            id=f"category-{n + 1}",
            caption=f"Category {n + 1}",
            tooltip=f"Give the selected instances category {n + 1} of the list.",
            run=category(n),
            key=str(n + 1),
            group=CATEGORY,
        )
        for n in range(9)
    ]
    return CommandSet(made)
