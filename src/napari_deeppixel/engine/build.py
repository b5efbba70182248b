"""ModelSpec → torchvision Mask R-CNN."""

from typing import Any, get_args

from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.engine.spec import Architecture, ModelSpec
from napari_deeppixel.engine.torch_gate import torch, torchvision

detection = torchvision.models.detection

# a RoI of this side (px) is pooled from the level with stride 16; ImageNet's 224 would send all
# nuclei to the finest level (Lin et al. 2017, FPN, eq. 1)
_SLIM_CANONICAL_SCALE = 64


class CropTransform(detection.transform.GeneralizedRCNNTransform):  # type: ignore[misc,name-defined]  # untyped
    """torchvision's transform, but masks stay 28 x 28 and images may keep their size.

    torchvision's own pastes every mask into a float image of full size: 100 instances at
    4096 x 4096 are 6.7 GB. `engine.paste` does it inside the boxes. And its ``_skip_resize`` acts
    in training alone.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(
            spec.min_size or 1,
            spec.max_size or 1,
            list(spec.image_mean),
            list(spec.image_std),
        )
        self._own_sizes = None if spec.min_size is None else (spec.min_size, spec.max_size or 1)
        self.set_zoom(spec.zoom)

    def set_zoom(self, zoom: float) -> None:
        """Magnify images so many times; those that are resized, beyond their usual size."""
        self._zoom = zoom
        if self._own_sizes is not None:
            shorter, longer = (round(side * zoom) for side in self._own_sizes)
            self.min_size, self.max_size = (shorter,), longer

    def resize(self, image: Any, target: Any = None) -> tuple[Any, Any]:
        """Return image and target at the size that the network takes.

        In training, the crops of a network that keeps sizes are magnified already.
        """
        if self._own_sizes is not None:
            resized: tuple[Any, Any] = super().resize(image, target)
            return resized
        if self.training or self._zoom == 1:
            return image, target
        size_hw = [max(1, round(side * self._zoom)) for side in image.shape[-2:]]
        zoomed = torch.nn.functional.interpolate(
            image[None], size_hw, mode="bilinear", antialias=self._zoom < 1
        )
        return zoomed[0], target

    def postprocess(
        self,
        result: list[dict[str, Any]],
        image_shapes: list[Any],
        original_image_sizes: list[Any],
    ) -> list[dict[str, Any]]:
        """Return the predictions with boxes in the original image and masks as they are."""
        if self.training:
            return result
        for prediction, size, original in zip(
            result, image_shapes, original_image_sizes, strict=True
        ):
            prediction["boxes"] = detection.transform.resize_boxes(
                prediction["boxes"], size, original
            )
        return result


def build_model(spec: ModelSpec) -> Any:
    """Return the untrained network (`torchvision.models.detection.MaskRCNN`) of a spec.

    Its predictions carry boxes in the input image and mask probabilities (N, 1, 28, 28) for
    `engine.paste`.

    Raises
    ------
    WeightsError
        If the architecture is unknown.
    """
    common = {
        "num_classes": spec.categories.num_classes,
        "rpn_anchor_generator": _anchor_generator(spec),
        "box_nms_thresh": spec.box_nms,
        "rpn_post_nms_top_n_test": spec.rpn_post_nms_top_n,
    }
    if spec.architecture == "maskrcnn_slim":
        model = _build_slim(spec, common)
    elif spec.architecture == "maskrcnn_resnet50_fpn_v2":
        # torchvision's function makes the anchors itself and takes no others
        anchors = common.pop("rpn_anchor_generator")
        model = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **common)
        model.rpn.anchor_generator = anchors
    elif spec.architecture == "maskrcnn_resnet50_fpn":
        model = _build_resnet50(spec, common)
    else:
        raise WeightsError(
            f"unknown architecture {spec.architecture!r}: update napari-deeppixel, or use one of "
            f"{', '.join(get_args(Architecture))}"
        )
    model.transform = CropTransform(spec)
    for pool in (model.roi_heads.box_roi_pool, model.roi_heads.mask_roi_pool):
        _settle_strides(pool)
    return model


def _settle_strides(pool: Any) -> None:
    """Make a RoI pooling learn the strides of its levels (4, 8, 16, …) from a well-sized image.

    torchvision takes them from the height of the first image without its padding, and keeps them:
    after a first image of 40 rows (padded to 64), all later ones were pooled at half their place.
    """
    side = 256
    features = {
        name: torch.zeros(1, 1, side >> level, side >> level)
        for level, name in enumerate(pool.featmap_names, start=2)
    }
    pool(features, [torch.tensor([[0.0, 0.0, side, side]])], [(side, side)])


def _build_resnet50(spec: ModelSpec, common: dict[str, Any]) -> Any:
    norm = torchvision.ops.FrozenBatchNorm2d if spec.frozen_batch_norm else torch.nn.BatchNorm2d
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=norm, trainable_layers=5
    )
    for module in backbone.modules():
        if isinstance(module, norm):
            module.eps = spec.batch_norm_eps
    return detection.MaskRCNN(backbone, **common)


def _anchor_generator(spec: ModelSpec) -> Any:
    levels = len(spec.anchor_sizes)
    return detection.anchor_utils.AnchorGenerator(spec.anchor_sizes, (spec.aspect_ratios,) * levels)


def _build_slim(spec: ModelSpec, common: dict[str, Any]) -> Any:
    width = spec.fpn_channels
    body = torchvision.models.resnet18(weights=None, norm_layer=torch.nn.BatchNorm2d)
    backbone = detection.backbone_utils.BackboneWithFPN(
        body,
        return_layers={"layer1": "0", "layer2": "1", "layer3": "2"},
        in_channels_list=[64, 128, 256],
        out_channels=width,
    )
    pool = {
        "featmap_names": ["0", "1", "2"],
        "sampling_ratio": 2,
        "canonical_scale": _SLIM_CANONICAL_SCALE,
    }
    align = torchvision.ops.MultiScaleRoIAlign
    heads = detection.faster_rcnn
    masks = detection.mask_rcnn
    num_classes = common.pop("num_classes")
    return detection.MaskRCNN(
        backbone,
        rpn_head=detection.rpn.RPNHead(width, len(spec.anchor_sizes[0]) * len(spec.aspect_ratios)),
        rpn_fg_iou_thresh=0.6,
        rpn_batch_size_per_image=192,
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=2000,
        box_roi_pool=align(output_size=7, **pool),
        box_head=heads.TwoMLPHead(width * 7 * 7, 256),
        box_predictor=heads.FastRCNNPredictor(256, num_classes),
        box_batch_size_per_image=96,
        box_positive_fraction=0.3,
        mask_roi_pool=align(output_size=14, **pool),
        mask_head=masks.MaskRCNNHeads(width, (width,) * 3, 1),
        mask_predictor=masks.MaskRCNNPredictor(width, width, num_classes),
        **common,
    )
