"""What every batch of bytes goes through at last, on the device: normalised, erased, mixed."""

import attrs
import torch
from torch import Tensor

from blocks.data.augment.kernel_limits import unsupported
from blocks.data.erasing import RandomErasing
from blocks.data.loading.workers import Normalize
from blocks.data.mixing import Mixing
from blocks.data.order import mix_key
from blocks.data.views import Pictures, each_view
from blocks.ops.choose import Impl, choose
from blocks.random import fold_in

ERASE = 1 << 16  # of a sample's folded keys, far from those of its transform


@attrs.frozen(eq=False)
class LastPass:
    """Images or crops, labels -> the same as the model gets them; every view of crops by draws of its own.

    Labels of images are mixed with them; those of crops stay.
    """

    normalize: Normalize
    erase: RandomErasing | None = None
    mix: Mixing | None = None
    seed: int = 0

    def __call__(
        self, pictures: Pictures, labels: Tensor | None, keys: Tensor, step: int, index: Tensor, *, impl: Impl = "auto"
    ) -> tuple[Pictures, Tensor | None]:
        """Bytes [b, H, W, 3] or [b, V, H, W, 3] anywhere -> float32 [b, 3, H, W] or [b, V, 3, H, W] on the device.

        labels: int64 [b], on the device, or None; the samples' keys [b, 2] and the places in the global batch, index
        [b], on the CPU.
        """
        chosen = choose(impl, self.normalize.mean, lambda: _unsupported(pictures))
        passed = self._by_kernel if chosen == "triton" else self._by_torch
        return passed(pictures, labels, keys, step, index)

    def _by_torch(
        self, pictures: Pictures, labels: Tensor | None, keys: Tensor, step: int, index: Tensor
    ) -> tuple[Pictures, Tensor | None]:
        """One after the other, in PyTorch's operations."""
        pictures = {name: self._normalized(x) for name, x in pictures.items()}
        if self.erase is not None:
            for view, own in each_view(pictures, fold_in(keys, ERASE)):
                self.erase.erase_(view, own)
        if self.mix is None:
            return pictures, labels
        key = mix_key(self.seed, step)
        if "images" in pictures and labels is not None:
            images, labels = self.mix(pictures["images"], labels, key, index)
            return {"images": images}, labels
        for view, own in each_view(pictures, key):
            view.copy_(self.mix.pictures(view, own, index))
        return pictures, labels

    def _normalized(self, pictures: Tensor) -> Tensor:
        """uint8 [b, H, W, 3] or [b, V, H, W, 3] -> float32 on the device, channels first."""
        return self.normalize(pictures.flatten(0, -4)).unflatten(0, pictures.shape[:-3])

    def _by_kernel(
        self, pictures: Pictures, labels: Tensor | None, keys: Tensor, step: int, index: Tensor
    ) -> tuple[Pictures, Tensor | None]:
        """All at once, in one launch a view."""
        from blocks.ops.kernels.last_pass import last_pass  # Triton, only where it is asked for

        normalize, mixture = self.normalize, None
        given = {name: x.to(normalize.device, non_blocking=True).contiguous() for name, x in pictures.items()}
        made = {name: _channels_first(x) for name, x in given.items()}
        sources, outs = each_view(given, fold_in(keys, ERASE)), each_view(made, mix_key(self.seed, step))
        for (view, own), (out, key) in zip(sources, outs, strict=True):
            height, width = view.shape[1:3]
            erased = None if self.erase is None else self.erase.table(own, height, width, normalize.device)
            mixture = None if self.mix is None else self.mix.draw(key, index, height, width).to(normalize.device)
            drawn = None if mixture is None else (mixture.lam, mixture.box, mixture.cut)
            last_pass(view, normalize.mean, normalize.std, erased, drawn, out)
        if self.mix is not None and mixture is not None and labels is not None and "images" in pictures:
            labels = self.mix.mixed_targets(labels, mixture)
        return made, labels


def _channels_first(pictures: Tensor) -> Tensor:
    """Room for [.., H, W, 3] as float32 [.., 3, H, W]."""
    *batch, height, width, channels = pictures.shape
    return pictures.new_empty(*batch, channels, height, width, dtype=torch.float32)


def _unsupported(pictures: Pictures) -> str | None:
    return next(filter(None, map(unsupported, pictures.values())), None)
