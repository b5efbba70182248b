"""The parts of torchvision's Mask R-CNN, each by fewer and faster operations.

Batch norms are folded into the convolutions before them (inference only), each convolution does its
ReLU and the sum of its residual, features lie channels last, RoIAlign runs on all cores. Each class
takes the place of torchvision's own part in the same forward pass.
"""

from typing import Any

from napari_deeppixel.engine.module_copy import with_parts
from napari_deeppixel.engine.packed_conv import PackedConv
from napari_deeppixel.engine.proposals import FastProposals
from napari_deeppixel.engine.roi_align import FastRoIAlign
from napari_deeppixel.engine.torch_gate import torch, torchvision
from napari_deeppixel.engine.winograd import WinogradConv, winograd_fits

_nn = torch.nn
_detection = torchvision.models.detection

# channels from which a Winograd convolution in fp32 takes no longer than a direct one in bf16
_WIDE = 256
_FEWEST_ROWS = 64


def fused_model(model: Any, dtype: Any) -> Any:
    """Return a Mask R-CNN with faster parts and the same weights; the model stays as it is.

    Feature maps, anchors, boxes and scores are float32 whatever the type, and so are the last
    layers that scores and boxes come from.

    Parameters
    ----------
    model
        As `engine.build.build_model` gives it, on its device.
    dtype
        torch type of convolutions and large linear layers.
    """
    heads = model.roi_heads
    pools = {}
    if next(model.parameters()).device.type == "cpu":
        pools = {
            name: FastRoIAlign.of(getattr(heads, name))
            for name in ("box_roi_pool", "mask_roi_pool")
        }
    roi_heads = with_parts(
        heads,
        **pools,
        box_head=FusedBoxHead(heads.box_head, heads.box_roi_pool.output_size, dtype),
        mask_head=FusedMaskHead(heads.mask_head, dtype),
        mask_predictor=FusedMaskPredictor(heads.mask_predictor, dtype),
    )
    rpn = FastProposals.of(model.rpn, FusedRPNHead(model.rpn.head, dtype))
    return with_parts(
        model, backbone=FusedBackbone(model.backbone, dtype), rpn=rpn, roi_heads=roi_heads
    )


class FusedConv(_nn.Module):
    """A convolution with what follows it: a sum, a ReLU.

    Parameters
    ----------
    weight, bias
        float32 (K, C, h, w) and (K,).
    stride, padding
        (y, x).
    has_relu
        Whether a ReLU follows.
    dtype
        torch type to run in.
    """

    def __init__(
        self,
        weight: Any,
        bias: Any,
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        has_relu: bool,
        dtype: Any,
    ) -> None:
        super().__init__()
        self._dtype = dtype
        self._conv = PackedConv(
            weight.to(dtype), bias.to(dtype), stride=stride, padding=padding, has_relu=has_relu
        )
        self._winograd = None
        if dtype == torch.float32 and winograd_fits(weight, stride=stride, padding=padding):
            self._winograd = WinogradConv(weight, bias, has_relu=has_relu)

    @classmethod
    def of(cls, conv: Any, norm: Any = None, *, has_relu: bool, dtype: Any) -> "FusedConv":
        """Return what a convolution and the batch norm after it do in inference."""
        weight, bias = _folded(conv, norm)
        return cls(
            weight, bias, stride=conv.stride, padding=conv.padding, has_relu=has_relu, dtype=dtype
        )

    @classmethod
    def of_block(cls, block: Any, dtype: Any) -> "FusedConv":
        """Return what does the same as torchvision's `Conv2dNormActivation`."""
        conv, *others = block
        norm = next((part for part in others if not isinstance(part, _nn.ReLU)), None)
        has_relu = any(isinstance(part, _nn.ReLU) for part in others)
        return cls.of(conv, norm, has_relu=has_relu, dtype=dtype)

    def forward(self, images: Any, add: Any = None) -> Any:
        """Return the result (N, K, H, W); `add` is added before the ReLU, maybe in place."""
        images = images.to(self._dtype).contiguous(memory_format=torch.channels_last)
        if self._winograd is not None and self._winograd.suits(images.shape):
            return self._winograd(images, add)
        return self._conv(images, add)


def _quickest(conv: Any, dtype: Any) -> Any:
    """Return the type in which a convolution of large features is done soonest.

    Those of many channels by Winograd in fp32, and it is fp32 that RoIAlign reads. Tiles of 4 x 4
    cover the 7 x 7 and 14 x 14 features of RoIs too badly for that.
    """
    fits = winograd_fits(conv.weight, stride=conv.stride, padding=conv.padding)
    is_wide = fits and conv.in_channels >= _WIDE
    return torch.float32 if is_wide and dtype == torch.bfloat16 else dtype


def _folded(conv: Any, norm: Any) -> tuple[Any, Any]:
    """Return weight and bias, float32, of a convolution and the batch norm after it."""
    weight = conv.weight.detach().float()
    bias = conv.bias.detach().float() if conv.bias is not None else weight.new_zeros(len(weight))
    if norm is None or isinstance(norm, _nn.Identity):
        return weight, bias
    # torch.nn.utils.fusion takes torch's own batch norms alone, not torchvision's frozen ones
    scale = norm.weight.detach() * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias.detach() - norm.running_mean * scale
    return weight * scale[:, None, None, None], bias * scale + shift


class FusedBlock(_nn.Module):
    """A residual block of ResNet: `BasicBlock` or `Bottleneck`."""

    def __init__(self, block: Any, dtype: Any) -> None:
        super().__init__()
        layers = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if hasattr(block, "conv3"):
            layers.append((block.conv3, block.bn3))
        *first, last = layers
        self.first = _nn.Sequential(
            *(FusedConv.of(*layer, has_relu=True, dtype=dtype) for layer in first)
        )
        self.last = FusedConv.of(*last, has_relu=True, dtype=dtype)
        self.shortcut = None
        if block.downsample is not None:
            self.shortcut = FusedConv.of(*block.downsample, has_relu=False, dtype=dtype)

    def forward(self, images: Any) -> Any:
        """Return the block's features."""
        # the block before has no more use for them: they may be added to in place
        shortcut = images if self.shortcut is None else self.shortcut(images)
        return self.last(self.first(images), shortcut)


class FusedBackbone(_nn.Module):
    """A ResNet body with its feature pyramid (`BackboneWithFPN`)."""

    def __init__(self, backbone: Any, dtype: Any) -> None:
        super().__init__()
        self.out_channels = backbone.out_channels
        body, fpn = backbone.body, backbone.fpn
        self.stem = FusedConv.of(body.conv1, body.bn1, has_relu=True, dtype=dtype)
        self.maxpool = body.maxpool
        self.stages = _nn.ModuleDict(
            {
                name: _nn.Sequential(*(FusedBlock(block, dtype) for block in body[name]))
                for name in body
                if name.startswith("layer")
            }
        )
        self._level_of_stage = dict(body.return_layers)
        self.inner, self.outer = (
            _nn.ModuleList(
                FusedConv.of_block(block, _quickest(block[0], dtype)) for block in blocks
            )
            for blocks in (fpn.inner_blocks, fpn.layer_blocks)
        )
        self.extra = fpn.extra_blocks

    def forward(self, images: Any) -> dict[str, Any]:
        """Return the feature maps, float32, of images (N, C, H, W) by name, the finest first."""
        features = self.maxpool(self.stem(images))
        stages = {}
        for name, stage in self.stages.items():
            features = stage(features)
            if name in self._level_of_stage:
                stages[self._level_of_stage[name]] = features
        names, sources = list(stages), list(stages.values())
        coarser: Any = None
        levels: list[Any] = []
        for source, inner, outer in reversed(
            list(zip(sources, self.inner, self.outer, strict=True))
        ):
            if coarser is not None:
                coarser = _nn.functional.interpolate(coarser, size=source.shape[-2:])
            coarser = inner(source, coarser)
            levels.insert(0, outer(coarser))
        levels, names = self.extra(levels, sources, names)
        # anchors are made in the type of the maps, and torchvision's RoIAlign takes boxes of theirs
        return {name: level.float() for name, level in zip(names, levels, strict=True)}


class FusedRPNHead(_nn.Module):
    """The RPN's convolutions (`RPNHead`); objectness and box shifts in one."""

    def __init__(self, head: Any, dtype: Any) -> None:
        super().__init__()
        self.convs = _nn.Sequential(
            *(FusedConv.of_block(block, _quickest(block[0], dtype)) for block in head.conv)
        )
        parts = (head.cls_logits, head.bbox_pred)
        self._num_anchors = len(head.cls_logits.weight)
        self.outputs = FusedConv(
            torch.cat([part.weight.detach() for part in parts]),
            torch.cat([part.bias.detach() for part in parts]),
            has_relu=False,
            dtype=torch.float32,
        )

    def forward(self, levels: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return objectness (N, A, H, W) and box shifts (N, 4 A, H, W) of each level."""
        outputs = [self.outputs(self.convs(level)) for level in levels]
        return (
            [output[:, : self._num_anchors] for output in outputs],
            [output[:, self._num_anchors :] for output in outputs],
        )


class FusedLinear(_nn.Module):
    """A linear layer with a ReLU, as a convolution of one pixel: oneDNN's are the faster."""

    def __init__(self, weight: Any, bias: Any, dtype: Any) -> None:
        super().__init__()
        self._dtype = dtype
        shape = (1, weight.shape[1], 1000, 1)
        self._conv = PackedConv(
            weight[:, :, None, None].to(dtype), bias.to(dtype), has_relu=True, images_shape=shape
        )

    def forward(self, rows: Any) -> Any:
        """Return (N, K) of rows (N, C)."""
        images = rows.to(self._dtype)[None, :, None].permute(0, 3, 1, 2)
        return self._conv(images).permute(0, 2, 3, 1).flatten(0, 2)


class FusedBoxHead(_nn.Module):
    """A box head: the first version's (`TwoMLPHead`) or the second's (`FastRCNNConvFCHead`)."""

    def __init__(self, head: Any, pooled_hw: tuple[int, int], dtype: Any) -> None:
        super().__init__()
        # in a tuple, because it is no layer of this one
        self._original = (head,)
        blocks: list[Any] = []
        if isinstance(head, _detection.faster_rcnn.TwoMLPHead):
            first, others = head.fc6, [head.fc7]
        else:
            *blocks, _flatten, first, _relu = head
            others = []
        self.convs = _nn.Sequential(*(FusedConv.of_block(block, dtype) for block in blocks))
        self.linears = _nn.Sequential(
            _linear_channels_last(first, pooled_hw, dtype),
            *(FusedLinear(other.weight.detach(), other.bias.detach(), dtype) for other in others),
        )

    def forward(self, pooled: Any) -> Any:
        """Return features (R, K) float32 of pooled features (R, C, P, P)."""
        if len(pooled) < _FEWEST_ROWS:
            # oneDNN would take the weights in another layout: half a second for fc6, each time
            (original,) = self._original
            return original(pooled)
        return self.linears(self.convs(pooled).permute(0, 2, 3, 1).flatten(1)).float()


def _linear_channels_last(linear: Any, pooled_hw: tuple[int, int], dtype: Any) -> FusedLinear:
    """Return a linear layer on flattened features that takes them channels last."""
    weight = linear.weight.detach().unflatten(1, (-1, *pooled_hw))
    return FusedLinear(weight.permute(0, 2, 3, 1).flatten(1), linear.bias.detach(), dtype)


class FusedMaskHead(_nn.Module):
    """The convolutions of the mask branch (`MaskRCNNHeads`)."""

    def __init__(self, head: Any, dtype: Any) -> None:
        super().__init__()
        self.convs = _nn.Sequential(*(FusedConv.of_block(block, dtype) for block in head))

    def forward(self, pooled: Any) -> Any:
        """Return features (R, K, P, P) of pooled features (R, C, P, P)."""
        return self.convs(pooled)


class FusedMaskPredictor(_nn.Module):
    """The last two layers of the mask branch (`MaskRCNNPredictor`)."""

    def __init__(self, predictor: Any, dtype: Any) -> None:
        super().__init__()
        up = predictor.conv5_mask
        # the 2 x 2 outputs of an input pixel become four times as many channels of it
        self.up = FusedConv(
            up.weight.detach().permute(2, 3, 1, 0).flatten(0, 2)[:, :, None, None],
            up.bias.detach().repeat(4),
            has_relu=True,
            dtype=dtype,
        )
        self.logits = FusedConv.of(predictor.mask_fcn_logits, has_relu=False, dtype=dtype)

    def forward(self, features: Any) -> Any:
        """Return logits (R, classes, 2 P, 2 P) float32 of features (R, C, P, P)."""
        side = features.shape[-1]
        quads = self.up(features).permute(0, 2, 3, 1).unflatten(3, (4, -1)).flatten(2, 3)
        logits = self.logits(quads.permute(0, 3, 1, 2)).float()
        logits = logits.unflatten(3, (side, 2, 2)).permute(0, 1, 2, 4, 3, 5)
        return logits.flatten(4, 5).flatten(2, 3)
