"""Folders as runs leave them, of tiny models that were never trained: what a report is made from."""

import attrs
import torch

import blocks
from blocks.data import write_dataset
from blocks.data.writing.iterator import iterator_source
from blocks.layers.dino_head import DinoHead
from blocks.layers.published_heads import swav_head
from blocks.layers.weight_norm import Prototypes
from blocks.pictures.vitals import vitals
from blocks.random import split
from blocks.runs import checkpoint, folder
from blocks.runs.records import RecordFile

KNOBS = dict(img_size=8, patch_size=4, embed_dim=8, depth=2, num_heads=2, mlp_ratio=1.0)
CLASSES = ("cat", "dog", "<b>owl</b>")
EPOCHS = 2


def images(place, count=24):
    """Shards of train and val, noise in three classes; the validation labels go round."""
    noise = torch.randint(256, (2, count, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def source(half):
        items = [(f"{i:03d}", picture.numpy(), i % 3) for i, picture in enumerate(half)]
        return iterator_source(items, CLASSES, "noise")

    write_dataset(dict(zip(("train", "val"), map(source, noise), strict=True)), place, workers=0, progress=False)
    return str(place)


def convit():
    """A ConViT of one gated and one plain layer, with a classifier."""
    return blocks.convit(**KNOBS, local_up_to_layer=1, num_classes=len(CLASSES))


def write_run(place, model, data, *, score="top1", beside=None, epochs=EPOCHS, **settings):
    """A run's whole folder; `beside` are the objective's own params."""
    settings = {"data": data, "val": "", "img_size": 8, "crop_pct": 1.0, "epochs": EPOCHS, "lr": 1e-3} | settings
    facts = {"seed": 0, "batch_size": 12, "steps_per_epoch": 2}
    about = folder.About(
        "tiny_recipe", ("recipes/tiny.py", "--lr", "1e-3", "--data", "shards/*.tar", "--policy", ""), settings, facts
    )
    folder.begin(place, about, {"date": "2026-01-01", "versions": {"torch": "2"}}, model=model)
    params = {**model.init(split(blocks.key(0))[0]), **(beside or {})}
    checkpoint.save(place, {"params": params}, 2 * epochs, {"facts": facts, "settings": settings})
    with RecordFile(place / "metrics.jsonl", 0) as metrics, RecordFile(place / "attention.jsonl", 0) as attention:
        for epoch in range(epochs + 1):
            attention.write({"step": 2 * epoch, "epoch": epoch, **vitals(model, params, torch.rand(2, 3, 8, 8))})
        for epoch in range(1, epochs + 1):
            metrics.write(record(epoch, score))
    return place


def record(epoch, score="top1"):
    """An epoch's line of metrics.jsonl."""
    values = {"train_loss": 2.0 - epoch / 2, f"val_{score}": epoch / 4, "lr": 1e-3}
    course = {
        "images": 24,
        "seconds": 0.5,
        "images_per_second": 48.0,
        "evaluation_seconds": 0.1,
        "waited_seconds": 0.02,
    }
    return {"kind": "epoch", "step": 2 * epoch, "epoch": epoch, **values, **course}


def probe(place, data):
    """A run of linear classifiers on a ConViT, whose settings leave the images' size to the model."""
    model, like = attrs.evolve(convit(), head=None), dict.fromkeys(("mean", "std"), torch.ones(8))
    own = {"features": like, "heads": {"0": {"weight": torch.zeros(3, 8), "bias": torch.zeros(3)}}}
    return write_run(place, model, data, beside=own, img_size=0)


def dino(place, data, norm):
    """A run of a ViT with DINO's head."""
    return write_run(place, blocks.vit(**KNOBS, head=DinoHead(8, 5, 8, 4, norm=norm)), data, score="knn20")


def swav(place, data):
    """A run of a ViT with SwAV's head and prototypes."""
    model = blocks.vit(**KNOBS, head=swav_head(8, 8, 4))
    own = {"prototypes": {"0": Prototypes(4, 5).init(blocks.key(1))}}
    return write_run(place, model, data, score="knn20", beside=own)
