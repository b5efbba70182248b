"""What a press, a drag and a release make: points that grow, without napari."""

from typing import TypeAlias

# y first
Point: TypeAlias = tuple[float, float]


class Shape:
    """Points (y, x) that grow with each mouse event.

    Attributes
    ----------
    points
        So far.
    drag_pans
        Whether a drag moves the view, so that only a press without one counts.
    is_marks
        Whether the points stand alone, instead of along a path.
    """

    drag_pans = False
    is_marks = False

    def __init__(self) -> None:
        self.points: list[Point] = []

    def press(self, at: Point) -> None:
        """Begin, or go on after an earlier release."""
        self._press(at)

    def drag(self, at: Point) -> None:
        """Follow the pressed mouse."""
        self._drag(at)

    def hover(self, at: Point) -> None:
        """Follow the mouse between two clicks."""
        self._hover(at)

    def release(self, at: Point, *, dragged: bool) -> bool:
        """Return whether that was all; `dragged`: not just a click."""
        return self._release(at, dragged)

    def end(self) -> bool:
        """Return whether a double click or Enter may end it now."""
        return False

    @property
    def path(self) -> list[Point]:
        """The way along the points, to be shown."""
        return self.points

    def _press(self, at: Point) -> None:
        self.points = [at]

    def _drag(self, at: Point) -> None:
        if at != self.points[-1]:
            self.points.append(at)

    def _hover(self, at: Point) -> None:
        pass

    def _release(self, at: Point, dragged: bool) -> bool:
        raise NotImplementedError


class Line(Shape):
    """A free-hand line in one drag, or a straight one in two clicks."""

    def __init__(self) -> None:
        super().__init__()
        self._clicked: list[Point] = []

    def _press(self, at: Point) -> None:
        self.points = [*self._clicked, at]

    def _drag(self, at: Point) -> None:
        if self._clicked:
            self.points = [*self._clicked, at]
        else:
            super()._drag(at)

    def _hover(self, at: Point) -> None:
        if self._clicked:
            self.points = [*self._clicked, at]

    def _release(self, at: Point, dragged: bool) -> bool:
        self._drag(at)
        if self._clicked or dragged:
            return len(set(self.points)) > 1
        self._clicked = self.points = self.points[:1]
        return False


class Lasso(Shape):
    """A free-hand outline in one drag, of at least three different points."""

    def _release(self, at: Point, dragged: bool) -> bool:
        self._drag(at)
        if len(self.points) > 1 and self.points[0] == self.points[-1]:
            self.points.pop()
        if dragged and len(set(self.points)) > 2:
            return True
        self.points = []
        return False

    @property
    def path(self) -> list[Point]:
        """The outline, joined."""
        return [*self.points, *self.points[:1]]


class Rectangle(Shape):
    """A box in one drag: its lowest and its highest corner."""

    def _drag(self, at: Point) -> None:
        self.points = [self.points[0], at]

    def _release(self, at: Point, dragged: bool) -> bool:
        (y1, x1), (y2, x2) = self.points[0], at
        is_box = dragged and y1 != y2 and x1 != x2
        self.points = [(min(y1, y2), min(x1, x2)), (max(y1, y2), max(x1, x2))] if is_box else []
        return is_box

    @property
    def path(self) -> list[Point]:
        """All four sides."""
        if len(self.points) < 2:
            return []
        (y1, x1), (y2, x2) = self.points
        return [(y1, x1), (y1, x2), (y2, x2), (y2, x1), (y1, x1)]


class Points(Shape):
    """Clicks at two or more different places."""

    drag_pans = True
    is_marks = True

    def end(self) -> bool:
        """Return whether there are enough."""
        return len(self.points) > 1

    def _press(self, at: Point) -> None:
        self._pressed_at = at

    def _drag(self, at: Point) -> None:
        pass

    def _release(self, at: Point, dragged: bool) -> bool:  # noqa: ARG002
        if not dragged and self._pressed_at not in self.points:
            self.points.append(self._pressed_at)
        return False


class Click(Points):
    """One click."""

    def end(self) -> bool:
        """Return False: the click itself is the end."""
        return False

    def _release(self, at: Point, dragged: bool) -> bool:
        super()._release(at, dragged)
        return bool(self.points)
