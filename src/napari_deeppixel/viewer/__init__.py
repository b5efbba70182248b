"""Between napari's layers and the core; no Qt here."""
