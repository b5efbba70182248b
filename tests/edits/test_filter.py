"""Filters that a person types, on six instances."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import instance_sets

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.filter import FilterError, attribute_table, matching

COLUMNS = [
    "handle", "category", "score", "area", "width", "height", "state", "source", "uncertainty",
    "x", "y", "reviewed",
]  # fmt: skip


def six() -> InstanceSet:
    sides = [(2, 3), (4, 5), (6, 7), (8, 9), (10, 11), (12, 13)]
    return InstanceSet(
        image_hw=(40, 90),
        masks=tuple(
            CroppedMask(pixels=np.ones(hw, np.bool_), y=1, x=1 + 14 * n)
            for n, hw in enumerate(sides)
        ),
        categories=CategoryTable.from_names("nucleus", "Debris", "mitotic cell", "area"),
        category_ids=np.array([1, 1, 2, 2, 3, 1]),
        scores=np.array([0.2, 0.5, 0.6, 0.9, np.nan, 1.0]),
        handles=np.array([3, 1, 4, 15, 9, 2]),
        states=tuple(
            InstanceState(state)
            for state in ("unreviewed", "unsure", "accepted", "edited", "drawn", "rejected")
        ),
        sources=("nuclei@ab12",) * 4 + ("person",) * 2,
    )


TABLE = attribute_table(six(), uncertainty=np.array([0.9, 1, 0, 0, 0, 0]))


def fits(expression: str) -> list[int]:
    return np.flatnonzero(matching(TABLE, expression)).tolist()


def test_a_table_has_one_row_an_instance() -> None:
    assert list(TABLE.columns) == COLUMNS
    assert TABLE.iloc[1].to_dict() == {
        "handle": 1,
        "category": "nucleus",
        "score": 0.5,
        "area": 20,
        "width": 5,
        "height": 4,
        "state": "unsure",
        "source": "nuclei@ab12",
        "uncertainty": 1.0,
        "x": 17.5,
        "y": 3.0,
        "reviewed": False,
    }


def test_a_table_without_given_uncertainty_computes_it() -> None:
    table = attribute_table(six())
    assert table["uncertainty"].tolist()[1:] == [1, 0, 0, 0, 0]
    assert table["uncertainty"][0] > 0.8


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("  ", [0, 1, 2, 3, 4, 5]),
        ("score < 0.6", [0, 1]),
        ("score < 0.6 and area > 6", [1]),
        ("score<=.6 or\narea==110", [0, 1, 2, 4]),
        ("0.3 < score < 0.6", [1]),
        ("0.3 < score <= 0.6 < 1", [1, 2]),
        ("0.6 > score", [0, 1]),
        # a drawn one has no score
        ("score >= 0", [0, 1, 2, 3, 5]),
        ("score != 0.5", [0, 2, 3, 5]),
        ("score not in [0.5, 1]", [0, 2, 3]),
        ("not score >= 0", [4]),
        ("not reviewed", [0, 1]),
        ("reviewed", [2, 3, 4, 5]),
        ("reviewed == False", [0, 1]),
        ("reviewed == true and x > 60", [4, 5]),
        ('category == "nucleus" or state == "unsure"', [0, 1, 5]),
        ('state in ["drawn", "edited"]', [3, 4]),
        ("state in (drawn, edited)", [3, 4]),
        ("state not in [drawn]", [0, 1, 2, 3, 5]),
        ("state in []", []),
        ("state == DRAWN", [4]),
        ("State == 'Drawn'", [4]),
        ("category == debris", [2, 3]),
        ("category != Debris", [0, 1, 4, 5]),
        ("category == 'Mitotic Cell'", [4]),
        # known to the table, though no instance has it
        ("category == 'area'", []),
        ("source == person", None),
        ("source == 'person'", [4, 5]),
        ("handle in [3, 15]", [0, 3]),
        ("width * height > 100", [4, 5]),
        ("area / 2 - 1 == 9", [1]),
        ("area > -(5 - 15)", [1, 2, 3, 4, 5]),
        ("area / 0 > 1", [0, 1, 2, 3, 4, 5]),
        ("0 * area / 0 == 0", []),
        ("1 < 2", [0, 1, 2, 3, 4, 5]),
        ("False", []),
        ("not (score < 0.6 or reviewed)", []),
        ("y < 4 and (x < 10 or reviewed)", [0, ]),
    ],
)  # fmt: skip
def test_a_filter_finds(expression: str, expected: list[int] | None) -> None:
    if expected is None:
        with pytest.raises(FilterError, match="unknown word 'person'"):
            matching(TABLE, expression)
    else:
        assert fits(expression) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("scoer < 0.5", "unknown word 'scoer' at character 1: expected one of handle, category, "),
        ("area > 5 and size < 3", "unknown word 'size' at character 14"),
        ("'é' == 'é' and size < 3", "unknown word 'size' at character 16"),
        ("score <", r"cannot be read at character \d"),
        ("area > 5 and or", "cannot be read at character 14"),
        ("score = 0.5", "compare with '=='"),
        ("score", "must be a comparison such as 'score < 0.6', got a number"),
        ("'drawn'", "got a text"),
        ("[1]", "got a list"),
        ("score and reviewed", "'and' takes yes or no, got a number: 'score' at character 1"),
        ("not area", "'not' takes yes or no, got a number: 'area' at character 5"),
        ("-state == 1", "'-' takes a number, got a text"),
        ("state + 1 > 2", "'arithmetic' takes a number, got a text"),
        ("state < drawn", "only numbers can be larger or smaller, got a text: 'state'"),
        ("area == 'big'", "a number can only be compared with a number, got a text: \"'big'\""),
        # the column goes before the category of that name
        ("category == area", "a text can only be compared with a text, got a number: 'area'"),
        ("state in drawn", "'in' takes a list"),
        ("state == [drawn]", "a list goes after 'in' only"),
        ("score < 0.5 & area > 3", "write 'and'"),
        ("score < 0.5 | area > 3", "write 'or'"),
        ("~reviewed", "write 'not'"),
        ("state is drawn", "write '=='"),
        ("score > " + "9" * 400, "too large"),
        ("score > 1" + " " * 500 + "+ 1", "at most 500 characters"),
        ("(" * 300 + "score > 1", "cannot be read|nested too deeply"),
        ("-" * 490 + "1 > 0", "nested too deeply"),
        ("score > 0\0", "expected a condition"),
    ],
)
def test_what_cannot_be_understood_is_said(expression: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        matching(TABLE, expression)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "score.__class__",
        "score[0] > 1",
        "(lambda: 1)() > 0",
        "[s for s in score] == 1",
        "(n := 3) > 2",
        "f'{score}' == 'x'",
        "9 ** 9 ** 9 > 1",
        "'a' * 9 == 'b'",
        "1 if reviewed else 2",
        "@score > 1",
        "area > 1j",
        "score == None",
        "score == ...",
        "state in {'drawn'}",
        "reviewed; reviewed",
    ],
)
def test_nothing_but_conditions_is_taken(expression: str) -> None:
    with pytest.raises(FilterError):
        matching(TABLE, expression)


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                *("score", "area", "state", "drawn", "reviewed", "true", "1", "0.5", "'x'"),
                *("<", "<=", "==", "!=", "in", "not", "and", "or", "is", "-", "+", "/", "**"),
                *("(", ")", "[", "]", ",", ".", ":", "lambda", "if", "else"),
            ]
        ),
        max_size=15,
    ).map(" ".join)
)
def test_any_text_gives_rows_or_a_filter_error(expression: str) -> None:
    try:
        found = matching(TABLE, expression)
    except FilterError:
        return
    assert found.shape == (6,)
    assert found.dtype == np.bool_


@given(instance_sets())
def test_a_filter_and_its_opposite_share_all_rows(instances: InstanceSet) -> None:
    table = attribute_table(instances)
    condition = "score < 0.5 or state == drawn and area > 2"
    assert (matching(table, condition) ^ matching(table, f"not ({condition})")).all()
    assert matching(table, "score < 0.5").tolist() == (instances.scores < 0.5).tolist()


def test_a_category_that_no_instance_has_is_a_known_word() -> None:
    table = attribute_table(
        InstanceSet(
            image_hw=(4, 6),
            masks=(CroppedMask(pixels=np.ones((1, 1), np.bool_), y=0, x=0),),
            categories=CategoryTable.from_names("Nucleus", "mitotic"),
        )
    )
    assert table["category"].tolist() == ["Nucleus"]
    assert matching(table, "category == mitotic").tolist() == [False]
    assert matching(table, "category == nucleus").tolist() == [True]


def test_no_instance_gives_an_empty_table() -> None:
    table = attribute_table(InstanceSet.empty((4, 6), CategoryTable.from_names("nucleus")))
    assert list(table.columns) == COLUMNS
    assert matching(table, "score < 0.5 and category == nucleus or reviewed").shape == (0,)


def test_plain_text_columns_do_as_well() -> None:
    table = pd.DataFrame({"state": ["drawn", None, "Edited"], "area": [1, 2, 3]})
    assert matching(table, "state == edited").tolist() == [False, False, True]


def test_ten_thousand_rows_take_milliseconds() -> None:
    table = pd.concat([TABLE] * 1667, ignore_index=True)
    start = time.process_time()
    for _ in range(10):
        matching(table, "score < 0.6 and category == nucleus or state in [drawn, edited]")
    # 2 ms a call measured
    assert (time.process_time() - start) / 10 < 0.05
