"""k-NN accuracy during pretraining."""

from collections.abc import Iterable, Mapping, Sequence

import attrs
import torch
from torch import Tensor

from blocks.block import Params
from blocks.probe.features import Embedding, Place, features
from blocks.probe.knn import knn, numbers_of_neighbours


@attrs.frozen(eq=False)
class KnnMonitor:
    """`monitor(params) -> {"knn20": accuracy}`: an `evaluate=` for the training loop, over all processes.

    Both loaders show every image once, without augmentation; fewer train images make it cheaper, see `balanced_share`.
    Params may hold more than the model's: an objective's own parts are not looked at.
    """

    model: Embedding
    train_data: Iterable[Mapping[str, Tensor]]
    val_data: Iterable[Mapping[str, Tensor]]
    processes: Place
    k: tuple[int, ...] = attrs.field(default=(20,), converter=tuple)
    temperature: float = 0.07
    dtype: torch.dtype | None = None

    def __attrs_post_init__(self):
        numbers_of_neighbours(self.k, self.temperature)  # now, not after an epoch

    def __call__(self, params: Params) -> dict[str, float]:
        train, val = (
            features(self.model, params, data, self.processes, dtype=self.dtype)
            for data in (self.train_data, self.val_data)
        )
        return knn(train, val, self.k, self.temperature)


def knn_monitor(
    model: Embedding, loaders: Sequence[Iterable[Mapping[str, Tensor]]], processes: Place
) -> KnnMonitor | None:
    """The monitor of two loaders, of who votes and of who is asked; None of no loaders: there are no labels."""
    if not loaders:
        return None
    voters, asked = loaders
    return KnnMonitor(model, voters, asked, processes)
