import threading

from napari_deeppixel.live.latest import Latest


def test_the_newest_wins_and_what_it_replaced_is_counted() -> None:
    place: Latest[int] = Latest()
    for number in (1, 2, 3):
        place.put(number)
    assert place.take() == 3
    assert (place.num_put, place.num_dropped) == (3, 2)


def test_an_empty_place_gives_none_at_once() -> None:
    assert Latest[int]().take() is None


def test_a_thing_that_was_taken_is_gone_and_not_dropped() -> None:
    place: Latest[int] = Latest()
    place.put(1)
    assert place.take() == 1
    assert place.take() is None
    place.put(2)
    assert place.num_dropped == 0


def test_who_waits_gets_what_another_thread_puts() -> None:
    place: Latest[int] = Latest()
    threading.Timer(0.02, place.put, [7]).start()
    assert place.take(5.0) == 7


def test_closing_wakes_who_waits() -> None:
    place: Latest[int] = Latest()
    threading.Timer(0.02, place.close).start()
    assert place.take(60.0) is None


def test_a_place_is_empty_after_somebody_took_what_was_there() -> None:
    place: Latest[int] = Latest()
    place.put(1)
    assert not place.wait_until_empty(0.0)
    threading.Timer(0.02, place.take).start()
    assert place.wait_until_empty(5.0)
