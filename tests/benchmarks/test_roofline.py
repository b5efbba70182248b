from benchmarks.roofline import STAGES, WHOLE, Ceilings, Layer, count_layers
from tests.engine.networks import as_tensor, noise, slim_engine
from torch.utils.flop_counter import FlopCounterMode  # noqa: TID251  # torch's own count

from napari_deeppixel.engine.torch_gate import torch


def test_the_multiplications_of_each_stage_are_those_that_torch_counts() -> None:
    network = slim_engine().model
    image = as_tensor(noise(64, 96))
    with torch.inference_mode():
        layers = count_layers(network, [image])
        with FlopCounterMode(display=False) as counter:
            network([image])
    counted = counter.get_flop_counts()
    for stage, prefixes in STAGES.items():
        expected = sum(
            sum(counted[f"MaskRCNN.{prefix.removesuffix('.')}"].values()) for prefix in prefixes
        )
        assert expected > 0
        assert sum(layer.flops for layer in layers[stage]) == expected, stage
    assert sum(layer.flops for layer in layers[WHOLE]) == counter.get_total_flops()


def test_a_layer_takes_what_its_multiplications_or_its_bytes_take_whichever_is_longer() -> None:
    ceilings = Ceilings(flops=100.0, bytes=10.0)
    busy, wide = Layer(flops=300, elements=5), Layer(flops=100, elements=20)
    assert ceilings.seconds([busy, wide], bytes_of_element=4) == 3 + 8
