from pathlib import Path

import pytest
from benchmarks.performance_page import markdown_table, tables_of_printed, write_block


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "performance.md"
    path.write_text(
        "Before\n\n<!-- bench:engine:cpu -->\nold µs\n<!-- /bench -->\n\nAfter\n",
        encoding="utf-8",
    )
    return path


def test_a_run_replaces_the_tables_of_its_own_device_and_nothing_else(page: Path) -> None:
    write_block(page, "engine", "cpu", "new\n")
    assert page.read_text(encoding="utf-8") == (
        "Before\n\n<!-- bench:engine:cpu -->\nnew\n<!-- /bench -->\n\nAfter\n"
    )


def test_another_device_gets_a_block_of_its_own_which_it_replaces_later(page: Path) -> None:
    for text in ("first", "second"):
        write_block(page, "engine", "cuda", text)
    assert page.read_text(encoding="utf-8") == (
        "Before\n\n<!-- bench:engine:cpu -->\nold µs\n<!-- /bench -->\n\n"
        "<!-- bench:engine:cuda -->\nsecond\n<!-- /bench -->\n\nAfter\n"
    )


def test_a_page_without_a_place_for_the_tables_is_refused_and_left_alone(page: Path) -> None:
    before = page.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="<!-- bench:live:cpu -->"):
        write_block(page, "live", "cpu", "new")
    assert page.read_text(encoding="utf-8") == before


def test_printed_cells_become_tables() -> None:
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert tables_of_printed("a | b\n1 | 2\n\nc\n3\n") == (
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n\n| c |\n| --- |\n| 3 |\n"
    )
