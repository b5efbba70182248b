import subprocess
import sys

import pytest

from napari_deeppixel.live.registry import create_source
from napari_deeppixel.live.source import SourceError, SourceOptions


def test_pymmcore_plus_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymmcore_plus", None)
    with pytest.raises(SourceError, match=r'pip install "napari-deeppixel\[micromanager\]"'):
        create_source("micromanager").open()


def test_listing_imports_nothing() -> None:
    code = (
        "import sys; from napari_deeppixel.live.mmcore_source import list_cameras; "
        "print(list_cameras(), 'pymmcore_plus' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["()", "False"]


@pytest.mark.parametrize("exposure", ["", "long", "0", "-5", "nan", "inf"])
def test_an_exposure_that_is_no_number_above_0_is_refused(exposure: str) -> None:
    with pytest.raises(SourceError, match=f"exposure_ms must be a number above 0, got '{exposure}"):
        create_source("micromanager", SourceOptions(extra={"exposure_ms": exposure}))
