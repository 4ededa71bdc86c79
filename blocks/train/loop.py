"""The training loop: step, log, save, evaluate; it goes on where the newest checkpoint in `out` stopped."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from blocks import random, tree
from blocks.checks import is_whole
from blocks.optim.clip import Clip
from blocks.optim.optimizer import Optimizer, Schedule
from blocks.runs import checkpoint
from blocks.runs.best import Best
from blocks.runs.metrics_log import MetricsLog
from blocks.runs.records import Record
from blocks.runs.weights_and_biases import WeightsAndBiases
from blocks.secrets import without_secrets
from blocks.train.beginning import begin, claim
from blocks.train.compiled import WHOLE, Compile, compile_mode
from blocks.train.distributed import Processes
from blocks.train.dry_run import Planned, dry_run
from blocks.train.ending import report
from blocks.train.evaluation import Evaluation, own_accuracy, scores_of, seen_by, subjects_of
from blocks.train.interrupt import interrupts
from blocks.train.journal import Journal, gather_unreadable
from blocks.train.loss_scale import LossScale
from blocks.train.made import made_of
from blocks.train.options import RunOptions, options_of
from blocks.train.profiling import profiling
from blocks.train.progress import Screen, summary
from blocks.train.readings import Readings, Totals
from blocks.train.resume import agree, facts
from blocks.train.state import State
from blocks.train.step import init_state, make_step
from blocks.train.waiting import mark
from blocks.train.watch import Watch


@attrs.frozen(eq=False)
class Result:
    """Where a run stands: its state, one record an epoch, and whether it has all its steps and epochs."""

    state: State
    history: list[Record]
    finished: bool


def run(
    objective: Any,
    optimizer: Optimizer,
    train_data: Any,
    val_data: Any = None,
    *,
    epochs: int,
    processes: Processes,
    options: RunOptions | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    resume: bool | None = None,
    clip: Clip | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    ema_decay: float | Schedule | None = None,
    precision: str = "float32",
    loss_scale: LossScale | None = None,
    frozen: Sequence[str] = (),
    compile: Compile = False,
    params: tree.Tree | None = None,
    evaluate: Evaluation | None = None,
    evaluate_every: int | None = None,
    checkpoint_every_steps: int | None = None,
    keep: int | None = None,
    best: str | None = None,
    log_every: int = 20,
    max_skipped: int = 5,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Train for `epochs` over `train_data.batches(start_step)`; all that is written goes to the folder `out`.

    `options` are a recipe: its running flags, and all its fields as `settings`. What of its flags is given here takes
    their place; without options, `out` must be given. Which files a run's folder holds: `blocks.runs`.
    It starts from `params`, by default fresh ones. From clip to compile, the knobs are `make_step`'s.
    After every epoch, or every `evaluate_every` and the last one, `evaluate(params)` is called for the params, their
    average, and what an objective that has `evaluated(memory)` names there, e.g. a teacher; by default it is the
    accuracy of `objective.model` on `val_data`.
    Where the objective has `alarms`, metrics' lowest healthy values, an epoch that stays below is told. `settings`,
    JSON-able, are kept in the checkpoint and compared on resume; by default the options' fields.
    With `resume`, a run found in `out` goes on, and one that was killed before its first checkpoint begins anew;
    without it, `out` must hold no run. A second run into the same folder at the same time is refused. SIGTERM, SIGUSR1
    and Ctrl-C end the run between two steps, with a checkpoint, and a recipe's program with exit code 143, 138 or 130.
    Raises ValueError for settings that cannot be and for checkpoints of another run, FloatingPointError after
    `max_skipped` skipped updates in a row.
    """
    # the run
    when = {"evaluate_every": evaluate_every, "checkpoint_every_steps": checkpoint_every_steps}
    options = options_of(options, out=out, seed=seed, resume=resume, keep=keep, best=best, **when)
    out, seed, every = options.out, options.seed, options.checkpoint_every_steps
    steps, world_size, first = train_data.steps_per_epoch, processes.world_size, processes.is_main
    _check(epochs=epochs, log_every=log_every, max_skipped=max_skipped)
    evaluate = evaluate or own_accuracy(objective, val_data, processes, precision, params)
    if options.best and evaluate is None:
        raise ValueError(
            f"best {options.best}: this run evaluates nothing; leave it out, or give labelled images to do it"
        )
    model, seen = getattr(objective, "model", None), seen_by(val_data, evaluate)
    known = facts(objective, train_data, seed, accumulate, world_size)
    told = dict(options.settings if settings is None else without_secrets(settings))
    knobs = {"clip": clip, "clip_norm": clip_norm, "ema_decay": ema_decay, "frozen": tuple(frozen)}
    parts = {name: getattr(train_data, name, None) for name in ("transform", "erase", "mix", "mean", "std")}
    made = made_of(objective=objective, optimizer=optimizer, **knobs, **parts) | options.code
    about = {"facts": known, "settings": told, "made": made}
    train_step = make_step(
        objective,
        optimizer,
        accumulate=accumulate,
        clip=clip,
        clip_norm=clip_norm,
        ema_decay=ema_decay,
        precision=precision,
        loss_scale=loss_scale,
        frozen=frozen,
        compile=compile,
        donate=True,
    )

    with ExitStack() as stack:
        # its state: new, or the newest checkpoint's
        screen = stack.enter_context(Screen(steps_per_epoch=steps, epochs=epochs, quiet=not first))
        state = init_state(
            objective,
            optimizer,
            random.key(seed, processes.device),
            ema=ema_decay is not None,
            frozen=frozen,
            precision=precision,
            loss_scale=loss_scale,
            params=params,
        )
        if options.dry_run:
            given = (objective, optimizer, train_step, state, train_data, seen, processes, out, epochs)
            planned = Planned(*given, accumulate, precision, tuple(frozen))
            return Result(dry_run(planned, screen), [], finished=False)
        stack.enter_context(claim(options.out, processes))
        images = _described(train=train_data, val=seen)
        begun = begin(options, state, about, processes, screen.say, model=model, start=params, images=images)
        state, totals, saved = begun
        step, last = int(state.step), epochs * steps
        log = stack.enter_context(_log(options, step, about, screen)) if first else None
        history = agree([r for r in log.records if r["kind"] == "epoch"] if log else None, world_size)
        journal = Journal(screen, log, history, totals, train_data.batch_size, steps, log_every, max_skipped)
        journal.blame = lambda: train_step.broken(state, batch) if metrics["skipped"] else []
        journal.alarms = getattr(objective, "alarms", {})
        best_epoch = Best(out, options.best, writes=first)
        watch = stack.enter_context(
            Watch(model, seen if first else None, processes.device, Path(out) / "attention.jsonl", step)
        )
        if compile in WHOLE and compile_mode(compile, world_size) != compile:
            screen.say(f"compile {compile}: among processes the loss alone, for no graph takes the gradients' exchange")
        if journal.knows_epoch(step):  # it ended with the checkpoint: another begins
            journal.totals = Totals()
        screen.begin(step)

        # the loop
        interrupt = stack.enter_context(interrupts(screen.say))
        readings, stop = Readings(processes.device, world_size), False
        if step >= last:
            screen.say(f"this run is finished: it has all its {last} steps")
        batches = stack.enter_context(closing(train_data.batches(start_step=step)))
        profiled = stack.enter_context(_profiled(options, processes, screen, train_step.warm))
        while True:
            if step % steps == 0 and not stop:
                watch.look(step, step // steps, state.params)
            if step and step % steps == 0 and not stop and not journal.knows_epoch(step):
                evaluates = step == last or step // steps % options.evaluate_every == 0
                scores, seconds = scores_of(evaluate if evaluates else None, subjects_of(objective, state))
                if evaluates:
                    write = partial(checkpoint.write, state=state, about=_so_far(about, journal))
                    best_epoch.look(step, scores, history, write)
                journal.epoch(step, scores, seconds)
                journal.unreadable(gather_unreadable((train_data, seen), world_size))
            if step >= last or stop:
                break

            began = mark(processes.device)
            batch = next(batches)
            waited = began, mark(processes.device)
            state, metrics = train_step(state, batch)
            step += 1
            readings.put(step, metrics, stop=bool(interrupt), waited=waited)
            due = step % steps == 0 or bool(every and step % every == 0)
            stop = _read(readings, journal, all=due)
            profiled()
            del batch  # its memory is the next one's

            due = due and (journal.skipped == 0 or step == last)  # never keep the start of a broken stretch
            if due or stop:
                saved = checkpoint.path(out, step)
                if first:
                    checkpoint.save(out, state, step, _so_far(about, journal), keep=options.keep)

        # the end: one that was asked to stop in its last step has yet to evaluate
        finished = step >= last and not stop
        if finished:
            files = {"checkpoint": str(saved)}
            files |= {"best epoch's": str(best_epoch.path)} if best_epoch.path.is_file() else {}
            screen.table(summary(history, parameters=tree.count(state.params)) | files)
            if options.report and first:
                report(out, screen.say, model, seen)
        else:
            screen.say(f"stopped after step {step} of {last}; the same command goes on from {saved}")
    if not finished and options.recipe:
        raise SystemExit(interrupt.exit_code)
    return Result(state, history, finished)


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if not is_whole(value, 1):
            raise ValueError(f"{name} {value!r} is not a count; use a whole number, 1 or more")


def _described(**loaders: Any) -> dict[str, Any]:
    """What the loaders say of their images, of those that do."""
    return {name: loader.description for name, loader in loaders.items() if hasattr(loader, "description")}


def _so_far(about: Mapping[str, Any], journal: Journal) -> dict[str, Any]:
    """What a checkpoint says beside its state."""
    return {**about, "totals": attrs.asdict(journal.totals)}


def _log(options: RunOptions, step: int, about: Mapping[str, Any], screen: Screen) -> MetricsLog:
    """The metrics' log in the run's folder, and where else the options send them."""
    others = [WeightsAndBiases(Path(options.out), about["settings"])] if options.wandb else []
    return MetricsLog(options.out, step, screen.say, others)


def _profiled(
    options: RunOptions, processes: Processes, screen: Screen, warm: int
) -> AbstractContextManager[Callable[[], None]]:
    """What is called after every step; it does nothing unless the options want a profile, of the first process."""
    if options.profile and processes.is_main:
        return profiling(Path(options.out) / "profile", processes.device, screen.say, warm)
    return nullcontext(lambda: None)


def _read(readings: Readings, journal: Journal, *, all: bool) -> bool:
    """Note what has arrived; whether a process wishes to stop. Then everything is read, as with `all`."""
    stop = _noted(readings, journal, all=all)
    if stop and not all:
        _noted(readings, journal, all=True)
    return stop


def _noted(readings: Readings, journal: Journal, *, all: bool) -> bool:
    """Whether a step that was noted came with the wish to stop."""
    stop = False
    for step, values in readings.take(all=all):
        journal.step(step, values)
        stop = stop or bool(values["stop"])
    return stop
