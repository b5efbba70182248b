"""Settings and journals of its own for each test."""

from pathlib import Path

import pytest
from qtpy.QtCore import QSettings


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    QSettings.setPath(
        QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path / "settings")
    )
    monkeypatch.setenv("NAPARI_DEEPPIXEL_JOURNAL", str(tmp_path / "journal"))
