"""How a recipe is run, whatever it trains: the flags that all recipes share."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

import attrs
from attrs.validators import optional

from blocks.checks import count
from blocks.secrets import without_secrets
from blocks.train import errors
from blocks.train.distributed import Processes
from blocks.train.made import code_of

# they change nothing of what is trained
HOW = {"resume", "evaluate_every", "keep", "best", "checkpoint_every_steps", "dry_run", "profile", "report", "wandb"}
HOW |= {"max_unreadable", "timeout"}


@attrs.frozen(kw_only=True)
class RunOptions:
    """A recipe's class inherits from it and gives `out` a default of its own: `class Recipe(RunOptions)`."""

    out: str  # the run's folder; a run found here goes on
    seed: int = 0  # of the params, the batches, and all else that is drawn
    resume: bool = True  # go on from the newest checkpoint in out; --no-resume: out must hold no run
    evaluate_every: int = attrs.field(default=1, validator=count)  # so many epochs, and after the last one
    keep: int = attrs.field(default=2, validator=count)  # so many newest checkpoints stay
    best: str = ""  # a metric, e.g. val_top1: the checkpoint of its best epoch stays too, as best.pt
    checkpoint_every_steps: int | None = attrs.field(default=None, validator=optional(count))  # saves within epochs
    dry_run: bool = False  # tell model, FLOPs, memory, time, optimizer and data; trains and writes nothing
    profile: bool = False  # a few steps by torch.profiler: a trace and the hottest operations, in out/profile
    report: bool = True  # pictures and out/report/report.html at the end
    wandb: bool = attrs.field(default=False)  # to Weights & Biases too (pip install wandb)
    workers: int = 8  # loading processes for each training process; 0: none, it loads by itself
    decoded: Literal["", "disk", "memory", "device"] = ""  # keeps all pictures decoded there; "": none
    shuffle_window: int = 0  # samples shuffled together, for remote shards; 0: all
    max_unreadable: float = 0.01  # share of the images that may be unreadable; 0: not one
    timeout: float = 600.0  # seconds that a batch may take: storage that hangs is an error

    @wandb.validator
    def _installed(self, _: attrs.Attribute, wandb: bool) -> None:
        if wandb and find_spec("wandb") is None:
            raise ValueError("wandb is asked for and not installed: pip install wandb, or leave --wandb out")

    def loading(self, processes: Processes) -> dict[str, Any]:
        """What a recipe gives each of its loaders: `TrainLoader(shards, ..., **r.loading(processes))`."""
        place = {"rank": processes.rank, "world_size": processes.world_size, "device": processes.device}
        bounds = {"max_unreadable": self.max_unreadable, "timeout": self.timeout}
        return {**place, **bounds, "num_workers": self.workers, "decoded": self.decoded or None}

    @property
    def order(self) -> dict[str, Any]:
        """What the order of training images follows from: `TrainLoader(shards, ..., **r.order, **where)`."""
        return {"seed": self.seed, "shuffle_window": self.shuffle_window or None}

    @property
    def recipe(self) -> str | None:
        """The name of the recipe's file; None for bare options."""
        return None if type(self) is RunOptions else Path(errors.script(type(self))).stem

    @property
    def code(self) -> dict[str, str]:
        """{CODE: a digest of the recipe's file}; {} for bare options."""
        return {} if self.recipe is None else code_of(errors.file_of(type(self)))

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that say what is trained, JSON-able and without a URL's secrets; {} for bare options."""
        if self.recipe is None:
            return {}
        return without_secrets({name: value for name, value in attrs.asdict(self).items() if name not in HOW})

    def given(self, **others: Any) -> Self:
        """These, with what is not None of others in place of theirs."""
        values = {name: value for name, value in others.items() if value is not None}
        return attrs.evolve(self, **values | ({"out": str(values["out"])} if "out" in values else {}))


def options_of(options: RunOptions | None, **given: Any) -> RunOptions:
    """The options, with what is given in their place; without options no report. Raises ValueError where out lacks."""
    if options is not None:
        return options.given(**given)
    if given.get("out") is None:
        raise ValueError("a run wants a folder for what it writes: give out=..., or options=...")
    return RunOptions(out="", report=False).given(**given)
