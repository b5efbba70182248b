"""Several processes that train one network, as `torchrun` starts them; one alone is the same."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from napari_deeppixel.engine.torch_gate import torch

# the others wait while the first evaluates
_LONGEST_WAIT = timedelta(hours=6)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The process itself among those that train together.

    Gradients are summed by hand, not by DistributedDataParallel: layers freeze and thaw during a
    run, and a batch that is too large for one process is halved by all of them.

    Attributes
    ----------
    rank
        Which of them this one is; the first (0) evaluates, writes and prints.
    size
        How many there are.
    device
        torch device of this one.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this one evaluates, writes and prints."""
        return self.rank == 0

    def any(self, claim: bool) -> bool:
        """Return whether a claim is true in any process."""
        if self.size == 1:
            return claim
        found = torch.tensor([int(claim)], device=self.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return bool(found.item())

    def sum_gradients(self, parameters: Iterable[Any]) -> None:
        """Replace the gradient of each parameter that learns by the sum over all processes."""
        if self.size == 1:
            return
        learning = [p for p in parameters if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(together)
        parts = together.split([gradient.numel() for gradient in gradients])
        for parameter, part in zip(learning, parts, strict=True):
            parameter.grad = part.view(parameter.shape).clone(memory_format=torch.preserve_format)

    def mean(self, losses: dict[str, float]) -> dict[str, float]:
        """Return the mean of each loss over all processes."""
        if self.size == 1:
            return losses
        values = torch.tensor(list(losses.values()), device=self.device)
        torch.distributed.all_reduce(values)
        return dict(zip(losses, (values / self.size).tolist(), strict=True))

    def share(self, model: Any) -> None:
        """Give all processes the weights of the first."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                torch.distributed.broadcast(tensor, 0)

    def from_first(self, value: Any) -> Any:
        """Return what the first process has."""
        if self.size == 1:
            return value
        holder = [value]
        torch.distributed.broadcast_object_list(holder, 0, device=torch.device(self.device))
        return holder[0]


def is_distributed() -> bool:
    """Whether `torchrun` started this process among others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """Yield this process among those that `torchrun` started; alone without it.

    On CUDA each process of a machine takes the GPU of its own number, and they talk by NCCL;
    elsewhere by Gloo.
    """
    if not is_distributed():
        yield Processes(device=device)
        return
    is_cuda = device.startswith("cuda")
    if is_cuda:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if is_cuda else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield Processes(
            rank=torch.distributed.get_rank(),
            size=torch.distributed.get_world_size(),
            device=device,
        )
    finally:
        torch.distributed.destroy_process_group()
