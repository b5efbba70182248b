"""What the pipeline hands on: a frame with its own instances."""

from dataclasses import dataclass

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.engine.base import Prediction
from napari_deeppixel.live.source import Frame


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveResult:
    """One frame and the instances that a model found in it.

    Attributes
    ----------
    frame
        What the model saw.
    instances
        Those to show; their handles are the track ids.
    model
        Name and hash of the weights.
    model_s
        Seconds that the model took.
    finished_s
        `time.monotonic` when the result was ready.
    prediction
        All that the model found, hidden candidates included; None: nobody kept it. Handles up to
        65535 are track ids; those above are of candidates that belong to no track.

    Raises
    ------
    ValueError
        If frame and instances differ in size.
    """

    frame: Frame
    instances: InstanceSet
    model: str
    model_s: float
    finished_s: float
    prediction: Prediction | None = None

    def __post_init__(self) -> None:
        if self.instances.image_hw != self.frame.image_hw:
            raise ValueError(
                f"instances are of a plane of {self.instances.image_hw}, "
                f"their frame has {self.frame.image_hw}"
            )

    @property
    def age_s(self) -> float:
        """Seconds from the arrival of the frame to its result."""
        return self.finished_s - self.frame.grabbed_s
