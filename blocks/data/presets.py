"""The published views of self-supervised methods: tuples of transforms, for `MultiCrop`.

`flip` is a probability; `sigma`, the interval of the blur's standard deviation, is in pixels as published, for crops of
224: for small pictures make it smaller in proportion, or the blur takes all that there is to see.
"""

from blocks.data.augment.boxes import Size
from blocks.data.augment.distortion import Distortion
from blocks.data.transforms import TrainTransform

Range = tuple[float, float]
Views = tuple[TrainTransform, ...]
SIGMA = (0.1, 2.0)  # pixels
WEAK = (0.4, 0.4, 0.2, 0.1)  # BYOL's jitter of brightness, contrast, saturation, hue


def simclr_views(
    img_size: Size = 224, strength: float = 1.0, scale: Range = (0.08, 1.0), *, blur: float = 0.5, flip: float = 0.5,
    sigma: Range = SIGMA,
) -> Views:  # fmt: skip
    """Two alike: Chen et al. 2020, "SimCLR", appendix A; strength 0.5 and no blur for CIFAR-10, appendix B.9."""
    distortion = Distortion(strong_jitter(strength), blur=blur, sigma=sigma)
    return (TrainTransform(img_size, scale, flip=flip, policy=distortion),) * 2


def moco_v2_views(img_size: Size = 224, scale: Range = (0.2, 1.0), *, flip: float = 0.5, sigma: Range = SIGMA) -> Views:
    """Two alike: Chen et al. 2020, "Improved baselines with momentum contrastive learning", with its code's values."""
    distortion = Distortion((0.4, 0.4, 0.4, 0.1), sigma=sigma)
    return (TrainTransform(img_size, scale, flip=flip, interpolation="bilinear", policy=distortion),) * 2


def moco_v3_views(
    img_size: Size = 224, scale: Range = (0.08, 1.0), *, flip: float = 0.5, sigma: Range = SIGMA
) -> Views:
    """BYOL's, bilinear: Chen et al. 2021, "An empirical study of training self-supervised vision transformers"."""
    return _two_unlike(img_size, scale, flip, sigma, "bilinear")


def byol_views(img_size: Size = 224, scale: Range = (0.08, 1.0), *, flip: float = 0.5, sigma: Range = SIGMA) -> Views:
    """The first always blurred, the second seldom, but sometimes solarized: Grill et al. 2020, "BYOL", appendix B."""
    return _two_unlike(img_size, scale, flip, sigma, "bicubic")


def barlow_views(img_size: Size = 224, scale: Range = (0.08, 1.0), *, flip: float = 0.5, sigma: Range = SIGMA) -> Views:
    """BYOL's: Zbontar et al. 2021, "Barlow Twins", section 2.2."""
    return byol_views(img_size, scale, flip=flip, sigma=sigma)


def vicreg_views(img_size: Size = 224, scale: Range = (0.08, 1.0), *, flip: float = 0.5, sigma: Range = SIGMA) -> Views:
    """BYOL's, but two alike, of its mean chances: Bardes et al. 2022, "VICReg", appendix C.1."""
    distortion = Distortion(WEAK, blur=0.5, sigma=sigma, solarize=0.1)
    return (TrainTransform(img_size, scale, flip=flip, policy=distortion),) * 2


def swav_views(
    img_size: Size = 224, local_size: Size = 96, num_local: int = 6, *, scale: Range = (0.14, 1.0),
    local_scale: Range = (0.05, 0.14), strength: float = 1.0, flip: float = 0.5, sigma: Range = SIGMA,
) -> Views:  # fmt: skip
    """Two large and some small, all distorted as SimCLR's: Caron et al. 2020, "SwAV", section 3.2 and appendix A."""
    distortion = Distortion(strong_jitter(strength), sigma=sigma)
    large = TrainTransform(img_size, scale, flip=flip, interpolation="bilinear", policy=distortion)
    small = TrainTransform(local_size, local_scale, flip=flip, interpolation="bilinear", policy=distortion)
    return (large,) * 2 + (small,) * num_local


def dino_views(
    img_size: Size = 224, local_size: Size = 96, num_local: int = 8, *, scale: Range = (0.4, 1.0),
    local_scale: Range = (0.05, 0.4), flip: float = 0.5, sigma: Range = SIGMA,
) -> Views:  # fmt: skip
    """Two large as BYOL's and some small, blurred half the time: Caron et al. 2021, "DINO", with its code's values."""
    local = Distortion(WEAK, blur=0.5, sigma=sigma)
    small = TrainTransform(local_size, local_scale, flip=flip, policy=local)
    return _two_unlike(img_size, scale, flip, sigma, "bicubic") + (small,) * num_local


def ibot_views(
    img_size: Size = 224, local_size: Size = 96, num_local: int = 10, *, scale: Range = (0.25, 1.0),
    local_scale: Range = (0.05, 0.25), flip: float = 0.5, sigma: Range = SIGMA,
) -> Views:  # fmt: skip
    """DINO's of other sizes: Zhou et al. 2022, "iBOT", section 4.1, with its code's values for ViT-S."""
    return dino_views(img_size, local_size, num_local, scale=scale, local_scale=local_scale, flip=flip, sigma=sigma)


def dinov2_views(
    img_size: Size = 224, local_size: Size = 96, num_local: int = 8, *, scale: Range = (0.32, 1.0),
    local_scale: Range = (0.05, 0.32), flip: float = 0.5, sigma: Range = SIGMA,
) -> Views:  # fmt: skip
    """DINO's of other sizes: Oquab et al. 2024, "DINOv2", with its code's values for ViT-L on ImageNet-1k."""
    return dino_views(img_size, local_size, num_local, scale=scale, local_scale=local_scale, flip=flip, sigma=sigma)


def mae_views(img_size: Size = 224, scale: Range = (0.2, 1.0), *, flip: float = 0.5) -> Views:
    """One crop, no colours: He et al. 2022, "Masked autoencoders are scalable vision learners", appendix A.1."""
    return (TrainTransform(img_size, scale, flip=flip),)


def strong_jitter(strength: float = 1.0) -> tuple[float, float, float, float]:
    """SimCLR's jitter of brightness, contrast, saturation and hue at a strength s: appendix A."""
    return 0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength


def _two_unlike(img_size: Size, scale: Range, flip: float, sigma: Range, interpolation: str) -> Views:
    blurred = Distortion(WEAK, blur=1.0, sigma=sigma)
    solarized = Distortion(WEAK, blur=0.1, sigma=sigma, solarize=0.2)
    first, second = (
        TrainTransform(img_size, scale, flip=flip, interpolation=interpolation, policy=distortion)
        for distortion in (blurred, solarized)
    )
    return first, second
