"""Four small runs that are swept together: their optimizers and their keys."""

from blocks.optim.adamw import adamw
from blocks.optim.schedule import warmup_cosine
from blocks.random import key

RUNS = ((1e-4, 0.0, 3), (1e-3, 0.05, 3), (1e-3, 0.5, 4), (3e-2, 0.05, 5))  # learning rate, weight decay, seed
STEPS = 4


def optimizers(runs=RUNS):
    return [adamw(warmup_cosine(lr, 2, STEPS, start=1e-6), weight_decay=decay) for lr, decay, _ in runs]


def keys(runs=RUNS):
    return [key(seed) for _, _, seed in runs]
