"""Where choices of the person are kept between sessions."""

from qtpy.QtCore import QSettings


def own_settings() -> QSettings:
    """Return the settings of the program, in a file of the user's."""
    return QSettings(
        QSettings.Format.IniFormat,
        QSettings.Scope.UserScope,
        "napari-deeppixel",
        "napari-deeppixel",
    )
