"""Rates and spans of made-up clocks."""

import math

import pytest

from napari_deeppixel.live.meters import RateMeter, SpanMeter


def ticked(*times_s: float) -> RateMeter:
    meter = RateMeter(window_s=2.0)
    for time_s in times_s:
        meter.tick(time_s)
    return meter


@pytest.mark.parametrize("times_s", [(), (1.0,)])
def test_fewer_than_two_events_have_no_rate(times_s: tuple[float, ...]) -> None:
    meter = ticked(*times_s)
    assert math.isnan(meter.rate(1.0))
    assert meter.count == len(times_s)


def test_a_meter_that_forgets_counts_on() -> None:
    meter = ticked(0.0, 0.1)
    meter.forget()
    assert math.isnan(meter.rate(0.1))
    meter.tick(1.0)
    meter.tick(1.5)
    assert meter.rate(1.5) == pytest.approx(2)
    assert meter.count == 4


def test_events_a_tenth_of_a_second_apart_are_ten_a_second() -> None:
    meter = ticked(*[n / 10 for n in range(11)])
    assert meter.rate(1.0) == pytest.approx(10)
    # the next one is not late yet
    assert meter.rate(1.1) == pytest.approx(10)
    assert meter.count == 11


def test_only_the_last_two_seconds_count() -> None:
    # ten a second for three seconds, then two a second
    meter = ticked(*[n / 10 for n in range(30)], *[3 + n / 2 for n in range(7)])
    assert meter.rate(6.0) == pytest.approx(2)
    assert meter.count == 37


def test_a_rate_sinks_while_nothing_comes_and_is_0_after_two_seconds() -> None:
    meter = ticked(*[n / 10 for n in range(11)])
    # nothing came since 1.0, and the one after would have been due at 1.1: 10 events in 1.4 s
    assert meter.rate(1.5) == pytest.approx(10 / 1.4)
    assert meter.rate(3.2) == 0.0


def test_a_model_that_takes_four_seconds_has_a_rate() -> None:
    meter = ticked(0.0, 4.0, 8.0)
    assert meter.rate(8.0) == pytest.approx(0.25)
    assert meter.rate(11.0) == pytest.approx(0.25)
    # twice the time between two of them is over
    assert meter.rate(16.5) == 0.0


def test_after_a_pause_the_new_rate_counts() -> None:
    meter = ticked(0.0, 0.1, 0.2, 60.0, 60.1, 60.2)
    assert meter.rate(60.2) == pytest.approx(10)


def test_the_median_and_the_95_percent_quantile_are_those_of_the_newest_spans() -> None:
    meter = SpanMeter(max_spans=101)
    for span_s in (1000.0, 2000.0, *range(101)):
        meter.add(float(span_s))
    assert (meter.quantile(0.5), meter.quantile(0.95)) == (50.0, 95.0)


def test_without_spans_a_quantile_is_nan() -> None:
    assert math.isnan(SpanMeter().quantile(0.5))
