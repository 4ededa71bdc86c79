"""Several random views of every picture."""

from collections.abc import Callable, Sequence
from typing import cast

import attrs
import torch
from torch import Tensor

from blocks.checks import one_of
from blocks.data.augment.boxes import sides
from blocks.data.augment.checks import pixels
from blocks.data.canvas import Canvas
from blocks.data.decode import Picture, decoded
from blocks.data.transforms import HOMES, TrainTransform
from blocks.data.undecoded import DECODES, check_decode, undecoded
from blocks.data.views import Pictures, view_keys


@attrs.frozen
class MultiCrop:
    """Views of one size together: pictures, keys -> {"crops.0": uint8 [B, V, H, W, 3], "crops.1": ...}.

    The sizes come in the order of their first view. View v draws from the sample's key folded with v, independently
    of all others. `home`, `canvas` and `decode` are those of `TrainTransform`, once for all views: at home "device" one
    canvas is made of each picture (by default as large as the largest view), and `finish` makes the views. Raises
    ValueError without views, and for views with a home or a canvas of their own.
    """

    views: tuple[TrainTransform, ...] = attrs.field(converter=tuple)
    home: str = attrs.field(default="workers", validator=one_of(HOMES))
    canvas: int | None = attrs.field(default=None, validator=attrs.validators.optional(pixels))
    decode: str = attrs.field(default="workers", validator=one_of(DECODES))

    def __attrs_post_init__(self) -> None:
        if not self.views:
            raise ValueError("views () are none; give one transform for each view")
        homes = [view.home for view in self.views]
        if set(homes) != {"workers"}:
            raise ValueError(
                f"homes {homes} of the views are not theirs to choose; use MultiCrop(views, home='device')"
            )
        if self.canvas is not None and self.home != "device":
            raise ValueError(f"canvas {self.canvas} has no use with home {self.home!r}; it is for home='device'")
        check_decode(self.decode, self.home, self.cut)

    def __call__(self, images: Sequence[Picture], keys: Tensor) -> Pictures | Tensor:
        """The views, for home "device" the canvases uint8 [B, canvas, canvas, 3]; keys [B, 2] on the CPU."""
        if self.home == "device":
            return undecoded(images, self.cut) if self.decode == "device" else self.cut(images)
        once = {id(image): decoded(image) if len(self.views) > 1 else image for image in images}
        pictures = [once[id(image)] for image in images]
        return self._crops(keys, lambda view, own: cast(Tensor, view(pictures * (len(own) // len(pictures)), own)))

    @property
    def cut(self) -> Canvas:
        """What the workers make of a picture at home "device"."""
        size = self.canvas or max(max(sides(view.img_size)) for view in self.views)
        return Canvas(size, self.views[0].interpolation, self.views[0].resize)

    def finish(self, images: Tensor, keys: Tensor) -> Pictures:
        """The views of canvases: uint8 [B, H, W, 3] on any device, keys [B, 2] on the CPU."""
        return self._crops(keys, lambda view, own: view.finish(images, own))

    def _crops(self, keys: Tensor, make: Callable[[TrainTransform, Tensor], Tensor]) -> Pictures:
        """Views by size. Equal ones are made in one call, from keys [V B, 2]: most of a draw's time is the call's."""
        groups: dict[tuple[int, int], dict[int, Tensor]] = {sides(view.img_size): {} for view in self.views}
        for places in self._alike():
            view = self.views[places[0]]
            made = make(view, torch.cat([view_keys(keys, place) for place in places]))
            parts = made.unflatten(0, (len(places), len(keys))).unbind(0)
            groups[sides(view.img_size)].update(zip(places, parts, strict=True))
        ordered = ([parts[place] for place in sorted(parts)] for parts in groups.values())
        return {f"crops.{i}": torch.stack(views, 1) for i, views in enumerate(ordered)}

    def _alike(self) -> list[list[int]]:
        """The places of equal views, together."""
        alike: list[list[int]] = []
        for place, view in enumerate(self.views):
            found = next((places for places in alike if self.views[places[0]] == view), None)
            alike.append([place]) if found is None else found.append(place)
        return alike
