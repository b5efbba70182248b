"""Processes that go on when the window closes, and are found again."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from napari_deeppixel.core.atomic import atomic_file

# two clocks may give the start of one process; a number is given again much later
_SAME_START_S = 2.0
_KILL_WAIT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class DetachedProcess:
    """A process that is nobody's child: it outlives the window that started it.

    Attributes
    ----------
    pid
        Its number.
    started_s
        When it began, as `psutil` says: numbers are given again.
    host
        The computer that it runs on: the folder of a run may be looked at from another.
    """

    pid: int
    started_s: float
    host: str

    @classmethod
    def start(cls, command: Sequence[str], *, output: Path, note: Path) -> "DetachedProcess":
        """Start a process; what it prints goes to `output`, who it is into the file `note`.

        It works in the folder of its output, from which nothing is imported.

        Raises
        ------
        OSError
            If the program or the files cannot be had.
        """
        with output.open("ab") as file:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=output.parent,
                env=_environment(),
                **_apart(),
            )
        try:
            started_s = psutil.Process(process.pid).create_time()
        except psutil.Error:
            started_s = 0.0
        # a process that nobody waits for stays as a zombie when it is done
        threading.Thread(target=process.wait, daemon=True, name="napari-deeppixel wait").start()
        started = cls(pid=process.pid, started_s=started_s, host=platform.node())
        with atomic_file(note) as file:
            file.write(json.dumps(vars(started)).encode())
        return started

    @classmethod
    def find(cls, note: Path) -> "DetachedProcess | None":
        """Return the process that a note tells of, if it runs on this computer."""
        try:
            found = cls(**json.loads(note.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return found if found.is_running else None

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process() is not None

    def kill(self) -> None:
        """End it and all that it started, at once; waits until they are gone, 2 s at most."""
        process = self._process()
        if process is None:
            return
        family = [process]
        with contextlib.suppress(psutil.Error):
            family += process.children(recursive=True)
        for each in family:
            with contextlib.suppress(psutil.Error):
                each.kill()
        psutil.wait_procs(family, timeout=_KILL_WAIT_S)

    def _process(self) -> psutil.Process | None:
        if self.host != platform.node():
            return None
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started_s) < _SAME_START_S
            is_over = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if is_same and not is_over else None


def _environment() -> dict[str, str]:
    # Qt's settings are the window's; what is printed should be in the file at once; a module in
    # the folder of a run must not take the place of another
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QT_")}
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8"}


def _apart() -> dict[str, Any]:
    """Return what keeps a process alive when the terminal or the window ends."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}
