"""Counts and lists in words."""

from napari_deeppixel.core.words import counted, listed


def test_one_thing_is_no_plural_and_thousands_have_a_comma() -> None:
    assert counted(1, "image") == "1 image"
    assert counted(0, "image") == "0 images"
    assert counted(2000, "prediction") == "2,000 predictions"


def test_a_long_list_ends_in_how_many_more_there_are() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"], limit=3) == "a, b, c"
    assert listed(list("abcdefgh")) == "a, b, c, d, e and 3 more"
