r"""MAE: the pixels of patches that the encoder was not given. He et al. 2022, "Masked autoencoders are scalable vision
learners", appendix A.1. Its code decays the class token and the mask token too, which are spared here.

    torchrun recipes/pretrain_mae.py
        a small ConViT on scikit-learn's handwritten digits: k-NN of mean features of about 71 % (random weights 65 %)

    torchrun --nproc-per-node 8 recipes/pretrain_mae.py --trunk vit_base \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar'
        ImageNet-1k: the paper reports 83.6 % fine-tuned, 68.0 % by a linear probe (ViT-B, 1600 epochs); not run here
"""

from functools import partial
from typing import Literal

import attrs

import blocks
from blocks.data import EvalLoader, EvalTransform, TrainLoader, knn_shards, pretraining_shards
from blocks.data.multi_crop import MultiCrop
from blocks.data.presets import mae_views
from blocks.objectives.mae import MAE
from blocks.objectives.monitored import monitored
from blocks.optim.adamw import adamw
from blocks.optim.schedule import scaled_lr, warmup_cosine
from blocks.probe.knn_monitor import knn_monitor
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.loop import run
from blocks.train.options import RunOptions
from blocks.trunks.mae_decoder import mae_decoder

MICRO = dict(embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
SIZES = [f"{family}_{size}" for family in ("vit", "deit", "convit") for size in ("tiny", "small", "base")]
TRUNKS = {
    "vit_micro": partial(blocks.vit, **MICRO), "convit_micro": partial(blocks.convit, **MICRO, local_up_to_layer=3),
    **{name: getattr(blocks, name) for name in SIZES},
}  # fmt: skip


@attrs.frozen
class Recipe(RunOptions):
    """The published values; DIGITS replaces some when no other data is named."""

    data: str = "digits"  # training shards, with labels or without: a pattern, a folder, or "digits"
    val: str = ""  # labelled shards for k-NN; none needed where data is a folder with both, or has no labels
    trunk: Literal[tuple(TRUNKS)] = "vit_base"  # the model below the head; micro: for thumbnails
    img_size: int = 224  # pixels of a side: images are cropped or resized to it
    patch_size: int = 16  # pixels of a side; divides img_size
    global_pool: Literal["token", "avg"] = "token"  # the features that are watched; only the encoder is trained
    mask_ratio: float = 0.75  # share of the patches that the encoder is not given
    norm_pix: bool = True  # a patch's pixels get mean 0 and variance 1 before they are predicted
    decoder_dim: int = 512  # width of the decoder's tokens
    decoder_depth: int = 8  # layers of the decoder
    decoder_heads: int = 16  # its attention heads; divides decoder_dim
    epochs: int = 800  # passes over the training images
    batch_size: int = 4096  # images a step, over all processes
    accumulate: int = 1  # parts of the batch, one after another: a step in less memory; 1: whole
    lr: float = 1.5e-4  # peak rate per 256 images of the batch
    warmup_epochs: float = 40.0  # of a linear rise from 0; 0: none
    weight_decay: float = 0.05  # of weights, not of biases, norms, tokens and positions; 0: off
    betas: tuple[float, float] = (0.9, 0.95)  # AdamW's, of the two running means
    scale: tuple[float, float] = (0.2, 1.0)  # least and largest area of a random crop, shares of the image
    flip: float = 0.5  # probability of mirroring an image
    augment: Literal["auto", "workers", "device"] = "auto"  # where views are made; auto: on a GPU if there is one
    knn_share: float = 0.1  # share of the training images that vote in evaluation by k-NN
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the computation; params are float32
    compile: bool | Literal["layers", "loss", "step", "graph"] = False  # true: the loss; false: nothing is compiled
    out: str = "runs/pretrain_mae"  # checkpoints and metrics; a run found here goes on


DIGITS = dict(
    trunk="convit_micro", img_size=16, patch_size=4, global_pool="avg", mask_ratio=0.6, norm_pix=False, decoder_dim=64,
    decoder_depth=2, decoder_heads=4, epochs=40, batch_size=128, lr=4e-3, warmup_epochs=2.0, scale=(0.5, 1.0),
    flip=0.0, knn_share=1.0, augment="device", precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = pretraining_shards(r.data, r.val)
        where = r.loading(processes)
        crops = MultiCrop(mae_views(r.img_size, r.scale, flip=r.flip), home=processes.home(r.augment))
        train_data = TrainLoader(train_shards, batch_size=r.batch_size, transform=crops, **r.order, **where)
        seen = dict(batch_size=256, transform=EvalTransform(r.img_size), **where)
        knn_data = [EvalLoader(shards, **seen) for shards in knn_shards(train_shards, val_shards, r.knn_share)]
        steps = train_data.steps_per_epoch

        knobs = dict(img_size=r.img_size, patch_size=r.patch_size, pos_embed="sincos")
        model = TRUNKS[r.trunk](num_classes=0, **knobs)
        if r.global_pool == "avg":  # of tokens as the decoder gets them: the encoder's last layer is a norm
            model = attrs.evolve(model, pool=blocks.MeanPool(model.trunk.num_prefix_tokens))
        decoder = mae_decoder(model, embed_dim=r.decoder_dim, depth=r.decoder_depth, num_heads=r.decoder_heads)
        mae = MAE(model, decoder, r.mask_ratio, r.norm_pix)

        peak = scaled_lr(r.lr, r.batch_size, per=256)
        schedule = warmup_cosine(peak, round(r.warmup_epochs * steps), r.epochs * steps)
        run(
            monitored(mae, train_shards.num_classes), adamw(schedule, r.betas, weight_decay=r.weight_decay), train_data,
            evaluate=knn_monitor(model, knn_data, processes), epochs=r.epochs, options=r, processes=processes,
            accumulate=r.accumulate, precision=r.precision, compile=r.compile,
        )  # fmt: skip


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
