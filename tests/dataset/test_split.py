import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_deeppixel.dataset.annotated import Split
from napari_deeppixel.dataset.split import SplitRule, group_pins, split_key

rules = st.builds(
    SplitRule,
    seed=st.text(max_size=5),
    val=st.floats(0, 0.5),
    test=st.floats(0, 0.5),
)


def test_the_law_is_written_in_stone() -> None:
    # another answer would move images of all datasets that are in use
    rule = SplitRule(seed="seed", val=0.3, test=0.2)
    found = [rule.split_of(key).value for key in "abcdefg"]
    assert found == ["test", "val", "train", "train", "test", "val", "train"]


@given(rules, st.text())
def test_an_image_stays_where_it_is(rule: SplitRule, key: str) -> None:
    assert rule.split_of(key) is rule.split_of(key)


@given(rules, st.text(), st.floats(0, 0.5))
def test_more_for_one_split_takes_nothing_from_the_other(
    rule: SplitRule, key: str, share: float
) -> None:
    more_test = SplitRule(seed=rule.seed, val=rule.val, test=max(rule.test, share))
    more_val = SplitRule(seed=rule.seed, val=max(rule.val, share), test=rule.test)
    split = rule.split_of(key)
    if split is not Split.TRAIN:
        assert more_test.split_of(key) is split
        assert more_val.split_of(key) is split


@given(st.text(max_size=5), st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]))
def test_shares_are_as_large_as_chance_makes_them(seed: str, val: float) -> None:
    rule = SplitRule(seed=seed, val=val, test=(1 - val) / 4)
    splits = [rule.split_of(f"image {number}") for number in range(1000)]
    for split, share in ((Split.VAL, val), (Split.TEST, (1 - val) / 4)):
        # 6 standard deviations of the binomial law: once in 500 million
        spread = 6 * math.sqrt(1000 * share * (1 - share))
        assert abs(splits.count(split) - 1000 * share) <= spread


def test_images_of_a_group_share_their_key_and_others_do_not() -> None:
    assert split_key("a", group="slide", sha256="1") == split_key("b", group="slide", sha256="2")
    assert split_key("a", group="", sha256="1") != split_key("b", group="", sha256="2")
    # an image that is renamed stays in its split
    assert split_key("a", group="", sha256="1") == split_key("b", group="", sha256="1")
    # a group is no image, whatever it is called
    assert split_key("a", group="1", sha256="") != split_key("a", group="", sha256="1")


def test_pins_of_groups_leave_out_images_that_are_alone() -> None:
    pinned = [("", Split.VAL), ("g", Split.VAL), ("g", Split.TEST), ("h", None)]
    assert group_pins(pinned) == {"g": {Split.VAL, Split.TEST}}


@pytest.mark.parametrize("shares", [{"val": -0.1}, {"test": 1.5}, {"val": 0.6, "test": 0.6}])
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1|may be 1 together"):
        SplitRule(**shares)
