"""Instances on moving images: sources, the pipeline, tracks and recordings. No Qt, no napari."""
