"""What the parts of our loader take of an image's time, and the least that its decoder could take."""

import statistics

import torch
from measure import interleaved

from blocks import random
from blocks.data import Index, TrainTransform
from blocks.data.augment.boxes import sides
from blocks.data.index.read import Reader
from blocks.data.loading.workers import IMAGENET_MEAN, IMAGENET_STD, Normalize
from blocks.data.resize import by_torch


def stages(index: Index, transform: TrainTransform, batch_size: int, rounds: int) -> dict[str, float]:
    """Milliseconds an image, medians of batches on the CPU.

    "all" lacks the normalisation, which is the main process's. "entropy" decodes two pixels in the last row: all before
    them is undone from its Huffman code, and little else.
    """
    reader, samples = Reader(index), range(0, len(index), max(1, len(index) // batch_size))[:batch_size]
    pictures, keys = [reader.picture(sample) for sample in samples], random.split(random.key(0), len(samples))
    widths, heights = torch.tensor([picture.size for picture in pictures]).unbind(1)
    boxes = transform.draw(keys, heights, widths).boxes.tolist()
    parts = [picture.pixels(box) for picture, box in zip(pictures, boxes, strict=True)]
    size = sides(transform.img_size)
    batch, normalize = transform(pictures, keys), Normalize(IMAGENET_MEAN, IMAGENET_STD, torch.device("cpu"))
    seconds = interleaved(
        {
            "all": lambda: transform([reader.picture(sample) for sample in samples], keys),
            "read": lambda: [reader.read(sample) for sample in samples],
            "header": lambda: [picture.size for picture in pictures],
            "draw": lambda: transform.draw(keys, heights, widths),
            "decode": lambda: [picture.pixels(box) for picture, box in zip(pictures, boxes, strict=True)],
            "resize": lambda: [by_torch(part, size, transform.interpolation) for part in parts],
            "normalise": lambda: normalize(batch),
            "entropy": lambda: [p.pixels((p.size[1] - 1, 0, 1, 2)) for p in pictures],
            "whole": lambda: [picture.pixels() for picture in pictures],
        },
        rounds,
    )
    return {name: 1e3 * statistics.median(values) / len(samples) for name, values in seconds.items()}
