"""The largest of many numbers, found block by block; of equal ones the earlier."""

import attrs
import torch
from torch import Tensor


def largest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(values, places) of each row's `count` largest, in falling order, of equal ones the earlier: [n, B] -> [n, k].

    A row shorter than `count` gives all it has. Where equal numbers straddle the end, which `topk` would choose of
    as it likes, whole rows are sorted.
    """
    values, places = x.topk(min(count + 1, x.shape[1]), dim=1)  # one more shows where equal numbers straddle
    if count < x.shape[1]:
        straddling = (values[:, -2] == values[:, -1]).nonzero().squeeze(1)
        places = places[:, :count]
        if len(straddling):
            places[straddling] = x[straddling].sort(dim=1, descending=True, stable=True).indices[:, :count]
    places = places.sort(dim=1).values
    values, order = x.gather(1, places).sort(dim=1, descending=True, stable=True)
    return values, places.gather(1, order)


@attrs.frozen(eq=False)
class Nearest:
    """Of what n queries were shown so far the most similar: similarities [n, k], falling, and their labels [n, k]."""

    similarities: Tensor
    labels: Tensor

    @staticmethod
    def none(count: int, like: Tensor) -> "Nearest":
        """Before anything was shown: k is 0."""
        nothing = like.new_zeros(count, 0)
        return Nearest(nothing, nothing.long())

    def with_block(self, similarities: Tensor, labels: Tensor, count: int) -> "Nearest":
        """The `count` most similar, now that a block was shown, similarities [n, B], labels [B]."""
        values, places = largest(similarities, count)
        both = torch.cat((self.similarities, values), 1)  # what was shown earlier comes first
        values, chosen = largest(both, count)
        return Nearest(values, torch.cat((self.labels, labels[places]), 1).gather(1, chosen))
