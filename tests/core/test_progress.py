"""Stopping a task from another thread."""

import threading

import pytest

from napari_deeppixel.core.errors import DeepPixelError, RunCancelled
from napari_deeppixel.core.progress import CancelToken


def test_a_token_raises_only_after_cancel() -> None:
    token = CancelToken()
    token.raise_if_cancelled()
    assert not token.is_cancelled
    token.cancel()
    assert token.is_cancelled
    with pytest.raises(RunCancelled):
        token.raise_if_cancelled()


def test_cancel_reaches_a_task_in_another_thread() -> None:
    token, stopped = CancelToken(), []

    def work() -> None:
        try:
            while True:
                token.raise_if_cancelled()
        except RunCancelled:
            stopped.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    token.cancel()
    thread.join(timeout=30)
    assert stopped == [True]


def test_a_cancelled_run_is_no_error_to_show() -> None:
    assert not issubclass(RunCancelled, DeepPixelError)
