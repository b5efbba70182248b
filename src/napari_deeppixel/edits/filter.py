"""Instances that fit a condition which a person typed, such as ``score < 0.6 and area > 50``."""

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.geometry import box_centres_xy
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.edits.uncertainty import OPEN_STATES, uncertainties

# far longer than a person types
_LONGEST = 500


class FilterError(DeepPixelError):
    """A filter that a person typed cannot be understood."""


def attribute_table(
    instances: InstanceSet, *, uncertainty: NDArray[np.float64] | None = None
) -> pd.DataFrame:
    """Return one row an instance, in their order; the columns are the words of a filter.

    =============  ====================================================================
    handle         number in the label image
    category       name; a pandas categorical that knows all names of the table
    score          0 to 1; NaN where a person drew the instance
    area           pixels
    width, height  of the tight box, pixels
    state          a pandas categorical that knows all values of `InstanceState`
    source         model (name@hash) or person
    uncertainty    0 to 1, see `edits.uncertainty.uncertainties`
    x, y           centre of the tight box, in pixels from the image's top left corner
    reviewed       whether a person settled it: false for *unreviewed* and *unsure*
    =============  ====================================================================

    Parameters
    ----------
    instances
        Of one plane.
    uncertainty
        (N,), where it is known; else it is computed here, without hidden candidates.
    """
    if uncertainty is None:
        uncertainty = uncertainties(instances).values
    table = instances.categories.categories
    place_of_id = {category.id: place for place, category in enumerate(table)}
    boxes = instances.boxes_xyxy
    centres = box_centres_xy(boxes)
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.int64)
    states = [state.value for state in instances.states]
    return pd.DataFrame(
        {
            "handle": instances.handles,
            "category": pd.Categorical.from_codes(
                [place_of_id[number] for number in instances.category_ids.tolist()],
                categories=pd.Index([category.name for category in table]),
            ),
            "score": instances.scores,
            "area": instances.areas,
            "width": sides[:, 0],
            "height": sides[:, 1],
            "state": pd.Categorical(states, categories=[state.value for state in InstanceState]),
            "source": pd.Categorical(list(instances.sources)),
            "uncertainty": uncertainty,
            "x": centres[:, 0],
            "y": centres[:, 1],
            "reviewed": np.array([s not in OPEN_STATES for s in instances.states], np.bool_),
        }
    )


def matching(table: pd.DataFrame, expression: str) -> NDArray[np.bool_]:
    """Return which rows (N,) of an `attribute_table` fit a condition; an empty one fits all.

    Known are the columns, numbers, texts in quotes, ``true`` and ``false``, lists, comparisons
    (also chained: ``0.3 < score < 0.6``; ``in``, ``not in``), ``+ - * /``, ``and``, ``or``,
    ``not`` and brackets. Columns, texts and lone category and state names
    (``state == drawn``) are the same in capitals; a column's name goes before a lone category's.
    A missing number fits no comparison, not even ``!=``: a drawn instance has no score.

    The text is parsed by Python and walked here, node by node; none of it is ever run.

    Raises
    ------
    FilterError
        If the text is no such condition; the message says where and what was expected.
    """
    text = expression.replace("\n", " ").replace("\r", " ").strip()
    if not text:
        return np.ones(len(table), np.bool_)
    if len(text) > _LONGEST:
        raise FilterError(f"a filter has at most {_LONGEST} characters, got {len(text)}")
    try:
        # a division by zero is no number, and fits nothing
        with np.errstate(all="ignore"):
            fits = _Walk(table, text).value(_parse(text))
    except (RecursionError, MemoryError) as error:
        raise FilterError(f"expected a condition, got one nested too deeply: {text!r}") from error
    if fits.kind != _YES_NO:
        raise FilterError(
            f"a filter must be a comparison such as 'score < 0.6', got {fits.kind}: {text!r}"
        )
    return np.broadcast_to(fits.data, len(table)).copy()


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        place = min(max(error.offset or 1, 1), len(text) + 1)
        reason = "compare with '=='" if text[place - 1 :].startswith("=") else error.msg
        capitals = re.search(r"\b(AND|OR|NOT|IN)\b", text)
        if capitals:
            reason = f"write {capitals[0].lower()!r} in small letters"
        raise FilterError(
            f"expected a condition such as 'score < 0.6 and area > 50', got {text!r}, which cannot "
            f"be read at character {place}: {reason}"
        ) from error
    # a character that no program may hold
    except ValueError as error:
        raise FilterError(f"expected a condition, got {text!r}: {error}") from error


_NUMBER, _TEXT, _YES_NO, _LIST = "a number", "a text", "yes or no", "a list"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Value:
    """One value for each row, or one for all: an array of no axis; a list holds values."""

    kind: str
    data: Any  # float, object (str in small letters) or bool array; list[_Value] for a list


_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_INSTEAD = {ast.BitAnd: "and", ast.BitOr: "or", ast.Invert: "not", ast.Is: "==", ast.IsNot: "!="}


class _Walk:
    """Turns the nodes of one expression into values; knows a few kinds and refuses all others."""

    def __init__(self, table: pd.DataFrame, text: str) -> None:
        self._table, self._text = table, text
        self._columns = {str(name).lower(): name for name in table.columns}

    def value(self, node: ast.expr) -> _Value:
        match node:
            case ast.Constant(value=bool(constant)):
                return _Value(kind=_YES_NO, data=np.array(constant))
            case ast.Constant(value=int(constant) | float(constant)):
                return self._number(constant, node)
            case ast.Constant(value=str(constant)):
                return _Value(kind=_TEXT, data=np.array(constant.lower(), dtype=object))
            case ast.Name(id=word):
                return self._word(word, node)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return _Value(kind=_LIST, data=[self.value(part) for part in parts])
            case ast.BoolOp(op=op, values=parts):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                word = "and" if isinstance(op, ast.And) else "or"
                return self._yes_no(
                    join.reduce(np.broadcast_arrays(*[self._need(_YES_NO, p, word) for p in parts]))
                )
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return self._yes_no(~self._need(_YES_NO, part, "not"))
            case ast.UnaryOp(op=ast.USub(), operand=part):
                return _Value(kind=_NUMBER, data=-self._need(_NUMBER, part, "-"))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                numbers = [self._need(_NUMBER, side, "arithmetic") for side in (left, right)]
                return _Value(kind=_NUMBER, data=_ARITHMETIC[type(op)](*numbers))
            case ast.Compare():
                return self._comparison(node)
        raise self._refusal(node)

    def _yes_no(self, data: Any) -> _Value:
        return _Value(kind=_YES_NO, data=np.asarray(data, np.bool_))

    def _number(self, constant: float, node: ast.expr) -> _Value:
        try:
            return _Value(kind=_NUMBER, data=np.array(float(constant)))
        except OverflowError as error:
            raise FilterError(f"the number{self._at(node)} is too large") from error

    def _word(self, word: str, node: ast.expr) -> _Value:
        lower = word.lower()
        if lower in self._columns:
            return self._column(self._table[self._columns[lower]])
        if lower in ("true", "false"):
            return self._yes_no(lower == "true")
        if lower in self._lone_words():
            return _Value(kind=_TEXT, data=np.array(lower, dtype=object))
        raise FilterError(
            f"unknown word {word!r}{self._at(node)}: expected one of "
            f"{', '.join(self._columns.values())}, a category or a state; put other texts in quotes"
        )

    def _column(self, column: "pd.Series[Any]") -> _Value:
        if pd.api.types.is_bool_dtype(column):
            return self._yes_no(column.to_numpy())
        if pd.api.types.is_numeric_dtype(column):
            return _Value(kind=_NUMBER, data=column.to_numpy(np.float64))
        texts = column.astype("category").cat
        # the code -1 of a missing text falls on the last, empty one
        words = np.array([*(str(name).lower() for name in texts.categories), ""], dtype=object)
        return _Value(kind=_TEXT, data=words[texts.codes.to_numpy()])

    def _lone_words(self) -> set[str]:
        names: set[str] = set()
        for name in {"category", "state"} & set(self._table.columns):
            names |= {str(n).lower() for n in self._table[name].astype("category").cat.categories}
        return names

    def _need(self, kind: str, node: ast.expr, word: str) -> NDArray[Any]:
        value = self.value(node)
        if value.kind != kind:
            raise FilterError(
                f"{word!r} takes {kind}, got {value.kind}: {self._source(node)!r}{self._at(node)}"
            )
        data: NDArray[Any] = value.data
        return data

    def _comparison(self, node: ast.Compare) -> _Value:
        sides = [node.left, *node.comparators]
        fits = [
            self._compare(left, op, right)
            for left, op, right in zip(sides, node.ops, sides[1:], strict=False)
        ]
        return self._yes_no(np.logical_and.reduce(np.broadcast_arrays(*fits)))

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> NDArray[np.bool_]:
        a, b = self.value(left), self.value(right)
        if isinstance(op, ast.In | ast.NotIn):
            if b.kind != _LIST:
                raise FilterError(
                    f"'in' takes a list such as [drawn, edited], got {b.kind}: "
                    f"{self._source(right)!r}{self._at(right)}"
                )
            each = [self._equal(a, part, right) for part in b.data]
            found = np.logical_or.reduce(np.broadcast_arrays(np.array(False), *each))
            return np.asarray(_known(a) & (found != isinstance(op, ast.NotIn)), np.bool_)
        if isinstance(op, ast.Eq | ast.NotEq):
            fits = self._equal(a, b, right) != isinstance(op, ast.NotEq)
            return np.asarray(_known(a) & _known(b) & fits, np.bool_)
        if type(op) not in _ORDER:
            raise self._refusal(op, left)
        for value, side in ((a, left), (b, right)):
            if value.kind != _NUMBER:
                raise FilterError(
                    f"only numbers can be larger or smaller, got {value.kind}: "
                    f"{self._source(side)!r}{self._at(side)}"
                )
        return np.asarray(_ORDER[type(op)](a.data, b.data), np.bool_)

    def _equal(self, a: _Value, b: _Value, node: ast.expr) -> NDArray[np.bool_]:
        if _LIST in (a.kind, b.kind):
            raise FilterError(f"a list goes after 'in' only, in {self._text!r}{self._at(node)}")
        if a.kind != b.kind:
            raise FilterError(
                f"{a.kind} can only be compared with {a.kind}, got {b.kind}: "
                f"{self._source(node)!r}{self._at(node)}"
            )
        return np.asarray(a.data == b.data, np.bool_)

    def _refusal(self, node: ast.AST, place: ast.AST | None = None) -> FilterError:
        inner = getattr(node, "op", node)
        instead = _INSTEAD.get(type(inner))
        if instead:
            return FilterError(f"write {instead!r}{self._at(place or node)} in {self._text!r}")
        return FilterError(
            "expected columns, numbers, texts, lists, comparisons, + - * /, and, or, not; got "
            f"{self._source(place or node)!r}{self._at(place or node)}"
        )

    def _source(self, node: ast.AST) -> str:
        return ast.get_source_segment(self._text, node) or self._text

    def _at(self, node: ast.AST) -> str:
        # ast counts bytes
        before = self._text.encode()[: getattr(node, "col_offset", 0)].decode()
        return f" at character {len(before) + 1}"


def _known(value: _Value) -> NDArray[np.bool_]:
    """Return where a value is not missing."""
    return np.asarray(~np.isnan(value.data) if value.kind == _NUMBER else True, np.bool_)
