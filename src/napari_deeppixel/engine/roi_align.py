"""RoIAlign over a feature pyramid on the CPU, channels last.

He et al. 2017, Mask R-CNN, sec. 3; Lin et al. 2017, Feature Pyramid Networks, eq. 1. The same as
`torchvision.ops.MultiScaleRoIAlign`, whose kernel uses one core and is slowest on channels last.
"""

from typing import Any

import numpy as np

from napari_deeppixel.engine.cores import on_all_cores
from napari_deeppixel.engine.kernels import kernels
from napari_deeppixel.engine.module_copy import with_parts
from napari_deeppixel.engine.torch_gate import torch, torchvision

# boxes that a thread pools at a time
_CHUNK = 32


class FastRoIAlign(torchvision.ops.MultiScaleRoIAlign):  # type: ignore[misc]  # untyped
    """A pooling over feature levels that knows its strides, on all cores and channels last."""

    @classmethod
    def of(cls, pool: Any) -> Any:
        """Return what pools as a `torchvision.ops.MultiScaleRoIAlign` does, faster."""
        return with_parts(pool, cls)

    def forward(
        self, levels: dict[str, Any], boxes: list[Any], image_sizes: list[tuple[int, int]]
    ) -> Any:
        """Return the pooled features (R, C, P, P) of boxes (N, 4) of each image, float32.

        `levels` are float32 (N, C, H, W) by name.
        """
        used = [levels[name] for name in self.featmap_names]
        jit = kernels("roi_align_jit")
        if jit is None:
            contiguous = [level.contiguous() for level in used]
            named = dict(zip(self.featmap_names, contiguous, strict=True))
            return super().forward(named, boxes, image_sizes)
        side, samples = self.output_size[0], self.sampling_ratio
        rows = torch.cat(boxes).float().contiguous()
        image_of_box = np.repeat(
            np.arange(len(boxes), dtype=np.int64), [len(image) for image in boxes]
        )
        level_of_box = self.map_levels(boxes).numpy()
        pooled = torch.empty((len(rows), side, side, used[0].shape[1]))
        maps = [level.permute(0, 2, 3, 1).contiguous().numpy() for level in used]

        def pool(piece: tuple[int, Any]) -> None:
            level, which = piece
            jit.pool_level(
                maps[level],
                np.float32(self.scales[level]),
                samples,
                image_of_box,
                rows.numpy(),
                which,
                pooled.numpy(),
            )

        pieces = []
        for level in range(len(maps)):
            which = np.flatnonzero(level_of_box == level)
            pieces += [(level, which[n : n + _CHUNK]) for n in range(0, len(which), _CHUNK)]
        on_all_cores(pool, pieces)
        return pooled.permute(0, 3, 1, 2)
