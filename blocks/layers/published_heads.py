"""The heads of published self-supervised methods. Small images want smaller ones: every width can be given."""

from blocks.layers.dino_head import DinoHead
from blocks.layers.heads import ProjectionMlp


def moco_v2_head(in_features: int, hidden_features: int = 2048, out_features: int = 128) -> ProjectionMlp:
    """MoCo v2's (Chen et al. 2020, arXiv:2003.04297, section 3): 2 layers, ReLU."""
    return ProjectionMlp(in_features, hidden_features, out_features)


def moco_v3_projector(in_features: int, hidden_features: int = 4096, out_features: int = 256) -> ProjectionMlp:
    """MoCo v3's for ViT (Chen, Xie & He 2021, "MLP heads"): 3 layers, all with batch norm, the last without affine."""
    return ProjectionMlp(in_features, hidden_features, out_features, 3, "batch", "batch without affine")


def moco_v3_predictor(features: int = 256, hidden_features: int = 4096) -> ProjectionMlp:
    """MoCo v3's (Chen, Xie & He 2021, "MLP heads"): 2 layers, all with batch norm, the last without affine."""
    return ProjectionMlp(features, hidden_features, features, 2, "batch", "batch without affine")


def simclr_head(in_features: int, hidden_features: int = 2048, out_features: int = 128) -> ProjectionMlp:
    """SimCLR's (Chen et al. 2020, released code): 2 layers, both with batch norm; there the last has no shift."""
    return ProjectionMlp(in_features, hidden_features, out_features, 2, "batch", "batch")


def swav_head(in_features: int, hidden_features: int = 2048, out_features: int = 128) -> ProjectionMlp:
    """SwAV's (Caron et al. 2020, implementation details): 2 layers, batch norm between them."""
    return ProjectionMlp(in_features, hidden_features, out_features, 2, "batch")


def byol_projector(in_features: int, hidden_features: int = 4096, out_features: int = 256) -> ProjectionMlp:
    """BYOL's (Grill et al. 2020, section 3.3): 2 layers, batch norm between them."""
    return ProjectionMlp(in_features, hidden_features, out_features, 2, "batch")


def byol_predictor(features: int = 256, hidden_features: int = 4096) -> ProjectionMlp:
    """BYOL's (Grill et al. 2020, section 3.3), of the projector's shape."""
    return byol_projector(features, hidden_features, features)


def barlow_projector(in_features: int, features: int = 8192) -> ProjectionMlp:
    """Barlow Twins' (Zbontar et al. 2021, section 2.2): 3 layers of 8,192, batch norm between; its loss centres."""
    return ProjectionMlp(in_features, features, features, 3, "batch", last_bias=False)


def vicreg_expander(in_features: int, features: int = 8192) -> ProjectionMlp:
    """VICReg's (Bardes et al. 2022, section 4.2): 3 layers of 8,192, batch norm between; its loss centres."""
    return ProjectionMlp(in_features, features, features, 3, "batch", last_bias=False)


def dino_head(in_features: int, out_features: int = 65_536, **knobs) -> DinoHead:
    """DINO's (Caron et al. 2021, appendix C): hidden layers of 2,048, a bottleneck of 256, 65,536 outputs."""
    return DinoHead(in_features, out_features, **knobs)
