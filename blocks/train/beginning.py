"""How a run begins: anew, or from the newest checkpoint in its folder."""

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from blocks.runs import checkpoint, folder
from blocks.runs.claim import claimed
from blocks.runs.environment import environment
from blocks.runs.folder import About
from blocks.secrets import shown
from blocks.train.distributed import Processes
from blocks.train.options import RunOptions
from blocks.train.readings import Totals
from blocks.train.resume import agree, check_same_run, newest, with_loss_scale
from blocks.train.state import State
from blocks.tree import Tree

Say = Callable[[str], None]


def claim(out: str, processes: Processes) -> ExitStack:
    """The first process's claim to the run's folder, until the stack closes. Raises what `claimed` does, on all."""
    held, refused = ExitStack(), None
    if processes.is_main:
        try:
            held.enter_context(claimed(out))
        except ValueError as error:
            refused = str(error)
    refused = agree(refused, processes.world_size)
    if refused:
        raise ValueError(refused)
    return held


def begin(
    options: RunOptions,
    state: State,
    about: Mapping[str, Any],
    processes: Processes,
    say: Say,
    *,
    model: Any,
    start: Tree | None,
    images: Mapping[str, Any],
) -> tuple[State, Totals, Path | None]:
    """(state, sums of the epoch so far, checkpoint): as given, or the checkpoint's; and the folder's first files.

    Raises ValueError where the folder's run is another one, `options.resume` is off and it holds any, or where
    somebody else's files or a best epoch's checkpoint would be replaced.
    """
    saved = newest(options.out, processes.world_size)
    if not options.resume and agree(folder.is_run(options.out), processes.world_size):
        raise ValueError(
            f"{options.out} holds a run already{f', at {saved.name}' if saved else ''}; go on from it with resume "
            "(leave --no-resume out), or give another output folder (--out)"
        )
    strangers = agree(None if saved else folder.strangers(options.out), processes.world_size)
    if strangers:
        raise ValueError(
            f"{options.out} holds {', '.join(strangers)} that no run wrote and this one would replace; give another "
            "output folder (--out)"
        )
    best = agree(None if saved else folder.best_epoch(options.out), processes.world_size)
    if best:
        raise ValueError(
            f"{best} is a run's best epoch, whose newer checkpoints are gone: a run that begins here would delete it. "
            "Give another output folder (--out), or move it elsewhere"
        )
    totals, changes = Totals(), []
    if saved:
        leaves, found = checkpoint.read(saved)
        changes = check_same_run(found, about, saved)
        state, totals = checkpoint.fit(with_loss_scale(leaves, state), state, saved), Totals(**found["totals"])
        say("\n".join([*(f"resuming with another setting: {change}" for change in changes), f"going on from {saved}"]))
    if processes.is_main:
        _write(options, about, processes, state, changes, say, None if saved else (model, start))
        folder.note_images(options.out, images)
    return state, totals, saved


def _write(
    options: RunOptions,
    about: Mapping[str, Any],
    processes: Processes,
    state: State,
    changes: list[str],
    say: Say,
    new: tuple[Any, Tree | None] | None,
) -> None:
    """What the folder says of the run: that it goes on, or all of a `new` one, its model and the params given to it."""
    settings = {"out": options.out, "seed": options.seed, **options.settings, **about["settings"]}
    what = About(options.recipe, list(map(shown, sys.argv)), settings, about["facts"])
    where = environment(processes.device, processes.world_size)
    if new is None:
        folder.go_on(options.out, what, where, int(state.step), changes)
    else:
        folder.begin(options.out, what, where, model=new[0], params=state.params, start=new[1], say=say)
