"""Work on all cores: in threads of one core each, as many as torch may use."""

import threading

import pytest
import torch

from napari_deeppixel.engine.cores import on_all_cores, parts_of


def test_each_piece_is_done_once_in_threads_that_use_one_core() -> None:
    before = torch.get_num_threads()
    done: list[int] = []
    seen: set[tuple[str, int, bool]] = set()

    def work(piece: int) -> None:
        done.append(piece)
        name = threading.current_thread().name
        seen.add((name, torch.get_num_threads(), torch.is_inference_mode_enabled()))

    on_all_cores(work, range(50))
    assert sorted(done) == list(range(50))
    assert all(name.startswith("core") for name, _, _ in seen)
    assert {(threads, is_inference) for _, threads, is_inference in seen} == {(1, True)}
    assert torch.get_num_threads() == before


def test_a_thread_that_is_new_to_torch_still_has_all_cores() -> None:
    on_all_cores(lambda _: None, range(2))
    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert counts == [torch.get_num_threads()]


def test_an_error_in_a_piece_reaches_the_caller() -> None:
    def work(piece: int) -> None:
        if piece == 3:
            raise ValueError("piece 3")

    with pytest.raises(ValueError, match="piece 3"):
        on_all_cores(work, range(5))


def test_two_callers_at_once_both_get_their_work_done() -> None:
    done: list[tuple[str, int]] = []
    callers = [
        threading.Thread(
            target=on_all_cores, args=(lambda n, name=name: done.append((name, n)), range(40))
        )
        for name in "ab"
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(done) == [(name, n) for name in "ab" for n in range(40)]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 1000])
def test_parts_hold_every_piece_once(count: int) -> None:
    pieces = range(0, 64 * count, 64)
    parts = parts_of(pieces)
    assert [piece for part in parts for piece in part] == list(pieces)
    assert len(parts) <= 16 * torch.get_num_threads()
