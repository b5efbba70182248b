"""``python -m napari_deeppixel.cli``."""

import sys

from napari_deeppixel.cli import main

if __name__ == "__main__":
    sys.exit(main())
