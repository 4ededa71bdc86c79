"""The ops that `bench/gpu.py` measures, by name."""

from gpu_layer_ops import (  # bench/gpu_layer_ops.py: a script's own folder is on its path
    attention_case,
    draws_case,
    dropout_case,
    gpsa_case,
    linear_gelu_case,
    residual_norm_case,
)
from gpu_loss_ops import cross_entropy_case, cross_view_case, nt_xent_case, queue_nce_case, sinkhorn_case
from gpu_update_ops import adamw_ema_case, moving_average_case

CASES = {
    "gpsa": gpsa_case,
    "attention": attention_case,
    "residual_norm": residual_norm_case,
    "linear_gelu": linear_gelu_case,
    "cross_entropy": cross_entropy_case,
    "cross_view": cross_view_case,
    "nt_xent": nt_xent_case,
    "queue_nce": queue_nce_case,
    "sinkhorn": sinkhorn_case,
    "adamw_ema": adamw_ema_case,
    "moving_average": moving_average_case,
    "dropout": dropout_case,
    "draws": draws_case,
}
