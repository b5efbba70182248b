"""Put the one tracked manifest, the top-level `napari.yaml`, into the package.

npe2 looks for the manifest inside the package. A wheel gets a copy. An editable install gets a
git-ignored link, so that edits count at once; hatchling's own `force-include` would put the file
beside the package there, where npe2 does not find it.
"""

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MANIFEST = "napari.yaml"
PACKAGE = "napari_deeppixel"


class ManifestHook(BuildHookInterface):  # type: ignore[misc, type-arg]
    """Hatchling's hook; it takes the one subclass that it finds in this file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the manifest to the wheel, or link it into the source tree."""
        manifest = Path(self.root) / MANIFEST
        if not manifest.is_file():
            raise FileNotFoundError(f"{manifest} is missing: it is napari's view of the plugin")
        if version != "editable":
            build_data["force_include"][str(manifest)] = f"{PACKAGE}/{MANIFEST}"
            return
        link = Path(self.root) / "src" / PACKAGE / MANIFEST
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(Path("..", "..", MANIFEST))
        except OSError:
            # Windows without the right to make links: run `pip install -e .` again after an edit
            shutil.copyfile(manifest, link)
