"""Errors that a person can act on."""


class DeepPixelError(Exception):
    """Base of all errors whose message is meant for the person at the screen."""


class ImageError(DeepPixelError):
    """The pixels cannot be read or have a shape or type that no model takes."""


class WeightsError(DeepPixelError):
    """A weights file is missing, damaged, unsafe or does not fit its architecture."""


class AnnotationError(DeepPixelError):
    """An annotation file or dataset folder is missing, damaged or inconsistent."""


class DeviceError(DeepPixelError):
    """The chosen device does not exist here or has too little memory."""


class RunCancelled(Exception):  # noqa: N818  not an error
    """A long task stopped because the person asked for it; not an error."""
