"""What the loop tells of a run, on the screen and in the log; and when it gives up on losses that are not finite."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import torch.distributed as dist

from blocks.runs.metrics_log import MetricsLog
from blocks.runs.records import Record
from blocks.train.progress import Screen
from blocks.train.readings import Totals

NOT_METRICS = ("stop", "waited")
NOT_AVERAGED = (*NOT_METRICS, "skipped", "lr", "weight_decay", "ema_decay", "loss_scale")  # over an epoch


@attrs.define
class Journal:
    """The run's story so far. All processes keep one, with equal numbers; only the first has a log and a voice."""

    screen: Screen
    log: MetricsLog | None
    history: list[Record]  # one record an epoch
    totals: Totals  # of the epoch so far
    batch_size: int
    steps_per_epoch: int
    log_every: int
    max_skipped: int
    blame: Callable[[], list[str]] = list  # after a skip: the params whose gradient is not finite
    alarms: Mapping[str, float] = attrs.field(factory=dict)  # metrics' lowest healthy means over an epoch
    skipped: int = 0  # updates in a row that were skipped
    told: set[str] = attrs.field(factory=set)  # names of unreadable images
    _latest: Record = attrs.field(factory=dict)  # the last logged step's numbers
    _clock: float = attrs.field(factory=time.monotonic)
    _unlogged: tuple[int, float] = (0, 0.0)  # steps and seconds since the last logged step

    def step(self, step: int, values: dict[str, float]) -> None:
        """Note a step's numbers. Raises FloatingPointError at the `max_skipped`th skipped update in a row."""
        self.skipped = int(values["skipped"])
        self._tick()
        self._unlogged = (self._unlogged[0] + 1, self._unlogged[1])
        self.totals.add(values, self.batch_size)
        if step % self.log_every == 0 or not self._latest:
            self._log_step(step, values)
        self.screen.step(step, self._latest)
        if self.skipped:
            self._skipped(step, values)
        elif "loss_scale" in values and not math.isfinite(values["grad_norm"]):
            scale = f"{values['loss_scale']:g}"
            self.screen.say(
                f"step {step}: the gradient overflowed at loss scale {scale}; update skipped, scale lowered"
            )

    def epoch(self, step: int, evaluations: dict[str, float], seconds: float) -> None:
        """Note the end of an epoch: means over its steps, and what the evaluations gave in so many seconds."""
        totals, means = self.totals, self.totals.means()
        record = {"kind": "epoch", "step": step, "epoch": step // self.steps_per_epoch}
        record |= {f"train_{name}": value for name, value in means.items() if name not in NOT_AVERAGED}
        record |= evaluations
        record |= {"lr": totals.lr, "images": totals.images, "seconds": totals.seconds}
        record |= {"images_per_second": totals.images / totals.seconds if totals.seconds else None}
        record |= {"waited_seconds": totals.waited, "evaluation_seconds": seconds}
        self._write(record)
        self.history.append(record)
        self.screen.epoch(record)
        self._alarm(record)
        self.totals = Totals()
        self._clock = time.monotonic()

    def knows_epoch(self, step: int) -> bool:
        """Whether the epoch that ended at this step was noted, before an interruption."""
        return any(record["step"] == step for record in self.history)

    def unreadable(self, names: Mapping[str, str]) -> None:
        """Say which images could not be read, each once."""
        for name in sorted(names.keys() - self.told):
            self.screen.say(f"unreadable, left out: {name} ({names[name]})")
        self.told |= names.keys()

    def _tick(self) -> None:
        now = time.monotonic()
        self.totals.seconds += now - self._clock
        self._unlogged = (self._unlogged[0], self._unlogged[1] + now - self._clock)
        self._clock = now

    def _log_step(self, step: int, values: dict[str, float]) -> None:
        steps, seconds = self._unlogged
        rate = steps * self.batch_size / seconds if seconds else None
        numbers = {name: value for name, value in values.items() if name not in NOT_METRICS}
        numbers["skipped"] = self.skipped
        self._latest = {"epoch": step / self.steps_per_epoch, **numbers, "images_per_second": rate}
        self._unlogged = (0, 0.0)
        if step % self.log_every == 0:
            self._write({"kind": "step", "step": step, **self._latest})

    def _skipped(self, step: int, values: dict[str, float]) -> None:
        what = f"loss {values['loss']:g}, gradient norm {values['grad_norm']:g}{_not_finite(self.blame())}"
        self.screen.say(f"step {step}: {what}; update skipped ({self.skipped} of at most {self.max_skipped} in a row)")
        if self.skipped >= self.max_skipped:
            raise FloatingPointError(
                f"stopped at step {step}: {what}, {self.skipped} skipped updates in a row. A lower learning rate, a "
                "longer warm-up or clip_norm may help. The checkpoints are from before and whole"
            )

    def _alarm(self, record: Record) -> None:
        """Say loudly which of the epoch's means are too low to be healthy."""
        for name, least in self.alarms.items():
            mean = record.get(f"train_{name}")
            if mean is not None and not mean >= least:
                self.screen.say(
                    f"ALARM: in epoch {record['epoch']} {name} was {mean:.3g} on average, and healthy is {least:g} or "
                    "more: what should tell images apart is the same for all, the run collapses. It rarely recovers: "
                    "stop it, and try a lower learning rate, a longer warm-up, or a teacher that moves more slowly"
                )

    def _write(self, record: Record) -> None:
        if self.log:
            self.log.write(record)


def _not_finite(names: list[str]) -> str:
    """ " (not finite: cls_token, pos_embed, patch_embed.proj.weight and 149 more)", or nothing."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f" (not finite: {', '.join(names[:3])}{more})" if names else ""


def gather_unreadable(loaders: Iterable[Any], world_size: int) -> dict[str, str]:
    """{name: reason} of the images that any process could not read.

    Raises what a loader's `check_unreadable` does, on all processes.
    """
    loaders = [loader for loader in loaders if hasattr(loader, "skipped")]
    every: list[Any] = [[loader.skipped for loader in loaders]]
    if world_size > 1:
        mine, every = every[0], [None] * world_size
        dist.all_gather_object(every, mine)
    found: dict[str, str] = {}
    for loader, skipped in zip(loaders, zip(*every, strict=True), strict=True):
        names = {name: str(why) for one in skipped for name, why in one.items()}
        if hasattr(loader, "check_unreadable"):
            loader.check_unreadable(names)
        found |= names
    return found
