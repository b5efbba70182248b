"""The window: Qt widgets, the only place that knows Qt."""
