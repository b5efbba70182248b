"""RoIAlign over the levels of a feature pyramid, with fixed shapes."""

from typing import Any

from napari_deeppixel.engine.torch_gate import torch, torchvision

# RoIAlign gives zeros for samples more than a pixel outside of the map, without reading it
_OUTSIDE = -1e6


def as_rois(boxes: Any) -> Any:
    """Return boxes (B, R, 4) with the index of their image in front: (B R, 5)."""
    images = torch.arange(len(boxes), dtype=boxes.dtype, device=boxes.device)
    indices = images[:, None, None].expand(-1, boxes.shape[1], 1)
    return torch.cat([indices, boxes], dim=2).flatten(0, 1)


def pool_levels(pool: Any, levels: dict[str, Any], rois: Any) -> Any:
    """Return the features of RoIs, as torchvision's `MultiScaleRoIAlign` gives them.

    That one looks up which RoIs belong to a level, and waits. Here each level sees all of them,
    those of other levels moved outside of it, where RoIAlign gives zeros.

    Parameters
    ----------
    pool
        `MultiScaleRoIAlign` that knows its scales.
    levels
        float32 feature maps (B, C, h, w) by name.
    rois
        float32 (R, 5): the index of the image, and the box in the network's input.

    Returns
    -------
    tensor
        float32 (R, C, *pool.output_size).
    """
    maps = [level for name, level in levels.items() if name in pool.featmap_names]
    of_roi = _level_of(pool.map_levels, rois[:, 1:])
    total = None
    for position, (level, scale) in enumerate(zip(maps, pool.scales, strict=True)):
        boxes = rois[:, 1:].masked_fill((of_roi != position)[:, None], _OUTSIDE)
        pooled = torchvision.ops.roi_align(
            level,
            torch.cat([rois[:, :1], boxes], dim=1),
            output_size=pool.output_size,
            spatial_scale=scale,
            sampling_ratio=pool.sampling_ratio,
        )
        total = pooled if total is None else total.add_(pooled)
    return total


def _level_of(mapper: Any, boxes: Any) -> Any:
    """Return the position (N,) of the level for each box (N, 4): torchvision's `LevelMapper`.

    Lin et al. 2017, FPN, eq. 1.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    levels = torch.floor(mapper.lvl0 + torch.log2(sides / mapper.s0) + mapper.eps)
    return levels.clamp(mapper.k_min, mapper.k_max) - mapper.k_min
