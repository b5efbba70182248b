"""Processes that outlive the window that started them."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from napari_deeppixel.widgets.detached import DetachedProcess


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], DetachedProcess]]:
    """Start a program in a process of its own; what it leaves is killed."""
    started = []

    def start(program: str) -> DetachedProcess:
        command = [sys.executable, "-c", textwrap.dedent(program)]
        process = DetachedProcess.start(
            command, output=tmp_path / "output.txt", note=tmp_path / "process.json"
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < until, "it did not come to be so in 10 s"
        time.sleep(0.02)


def test_what_it_prints_goes_to_the_file_at_once(
    start: Callable[[str], DetachedProcess], tmp_path: Path
) -> None:
    process = start(
        "import sys, time; print('hallo'); print('oh', file=sys.stderr); time.sleep(60)"
    )
    output = tmp_path / "output.txt"
    wait_until(lambda: "oh" in output.read_text())
    assert output.read_text() == "hallo\noh\n"
    assert process.is_running


def test_it_is_found_again_by_its_note_until_it_ends(
    start: Callable[[str], DetachedProcess], tmp_path: Path
) -> None:
    process = start("import time; time.sleep(60)")
    note = tmp_path / "process.json"
    assert DetachedProcess.find(note) == process
    process.kill()
    assert DetachedProcess.find(note) is None
    assert not process.is_running


def test_a_process_that_ends_by_itself_leaves_no_zombie(
    start: Callable[[str], DetachedProcess],
) -> None:
    process = start("pass")
    wait_until(lambda: not process.is_running)
    wait_until(lambda: not psutil.pid_exists(process.pid))


def test_what_it_started_ends_with_it(
    start: Callable[[str], DetachedProcess], tmp_path: Path
) -> None:
    process = start(
        """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(child.pid)
        time.sleep(60)
        """
    )
    output = tmp_path / "output.txt"
    wait_until(lambda: output.read_text().endswith("\n"))
    child = int(output.read_text())
    process.kill()
    wait_until(lambda: not psutil.pid_exists(child))


def test_another_process_with_its_number_is_not_taken_for_it(
    start: Callable[[str], DetachedProcess],
) -> None:
    process = start("import time; time.sleep(60)")
    other = replace(process, started_s=process.started_s - 100)
    assert not other.is_running
    other.kill()
    assert process.is_running
    assert not replace(process, host="elsewhere").is_running


def test_a_note_that_is_none_finds_nothing(tmp_path: Path) -> None:
    note = tmp_path / "process.json"
    assert DetachedProcess.find(note) is None
    for text in ("", "[]", '{"pid": 1}', '{"pid": "x", "started_s": 0, "host": ""}'):
        note.write_text(text)
        assert DetachedProcess.find(note) is None


def test_it_does_not_import_from_the_folder_of_a_run(
    start: Callable[[str], DetachedProcess], tmp_path: Path
) -> None:
    (tmp_path / "secrets.py").write_text("raise SystemExit('the wrong one')")
    start("import secrets; print(len(secrets.token_hex(2)))")
    output = tmp_path / "output.txt"
    wait_until(lambda: output.read_text().endswith("\n"))
    assert output.read_text() == "4\n"


def test_it_goes_on_when_who_started_it_is_killed(tmp_path: Path) -> None:
    output, note = tmp_path / "output.txt", tmp_path / "process.json"
    starter = textwrap.dedent(
        f"""
        import os, signal, sys
        from pathlib import Path
        from napari_deeppixel.widgets.detached import DetachedProcess
        DetachedProcess.start(
            [sys.executable, "-c", "import time; print('on', flush=True); time.sleep(60)"],
            output=Path({str(output)!r}),
            note=Path({str(note)!r}),
        )
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run([sys.executable, "-c", starter], check=False, timeout=60)
    process = DetachedProcess.find(note)
    assert done.returncode == -9
    assert process is not None
    try:
        wait_until(lambda: output.read_text() == "on\n")
        assert process.is_running
    finally:
        process.kill()
