"""Corrections: the truth about an image's instances, and how hand edits reach it."""
