"""From annotated images to weights, and how good these are."""
