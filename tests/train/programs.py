"""What the processes that `test_resume` starts do; each comes from a server that has torch loaded already."""

import multiprocessing
import os
import signal
import sys
from contextlib import contextmanager

import torch
import torch.distributed as dist

from blocks.runs import checkpoint
from blocks.train.distributed import Processes
from blocks.train.evaluate import evaluate
from blocks.train.journal import gather_unreadable
from tests.train.pretraining import Views, pretrain
from tests.train.tiny import Classifier, TrainData, ValData, train
from tests.waiting import exit_codes

LIMIT_S = 120


def start(target, *args):
    """Run target(*args) in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["blocks.train.loop", "torch._dynamo"])
    process = context.Process(target=_begin, args=(target, *args), daemon=True)
    process.start()
    return process


def _begin(target, *args):
    sys.modules["torch.utils.tensorboard"] = None  # it takes seconds to import and has its own test
    torch.set_num_threads(1)  # as the tests' own process has: another number sums in another order
    target(*args)


def wait(*processes):
    """Their exit codes; one that does not end is an error."""
    return exit_codes(processes, LIMIT_S)


def kill_self(*_):
    """kill -9: no handler, no cleaning up."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_mid_epoch(folder):
    """Killed between steps 5 and 6, with a checkpoint after step 4."""
    data = TrainData(poison=lambda step, images: kill_self() if step == 5 else images)
    train(folder, train_data=data, val_data=ValData(), checkpoint_every_steps=2)


def killed_while_pretraining(folder, name):
    """Killed between steps 5 and 6 of an objective with a memory, with a checkpoint after step 4."""
    data = Views(poison=lambda step, images: kill_self() if step == 5 else images)
    pretrain(folder, name, train_data=data, checkpoint_every_steps=2)


def killed_before_the_rename(folder):
    """Killed while saving step 6: the file is written and has not got its name."""
    replace = os.replace
    os.replace = lambda old, new: kill_self() if "00000006" in str(new) else replace(old, new)
    train(folder, val_data=ValData(), checkpoint_every_steps=2)


def killed_while_writing(folder):
    """Killed while saving step 6: half of the file is written."""
    save = torch.save

    def half(content, file):
        save(content, file)
        if "00000006" in file.name:
            file.truncate(file.tell() // 2)
            kill_self()

    checkpoint.torch.save = half
    train(folder, val_data=ValData(), checkpoint_every_steps=2)


@contextmanager
def together(rank, folder):
    """One of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        yield Processes(rank, 2, rank)
    finally:
        dist.destroy_process_group()


def one_of_two(rank, folder):
    """Train until the second process, alone, is asked to stop after step 5; then evaluate on unequal shares."""

    def poison(step, images):
        if rank == 1 and step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return images

    with together(rank, folder) as processes:
        result = train(
            f"{folder}/run",
            processes=processes,
            train_data=TrainData(processes, poison=poison),
            val_data=ValData(processes),
        )
        found = {"step": result.state.step, "finished": result.finished, "history": result.history}
        model = Classifier()
        for name, shares in {"all_to_one": [0, 10, 10], "uneven": [0, 9, 10]}.items():
            data = ValData(processes, shares=shares)
            data.skipped = {f"image {rank}": "unreadable"}
            found[name] = evaluate(model, result.state.params, data, processes)
        other, asked = TrainData(processes), []
        other.skipped, other.check_unreadable = {"torn": "truncated"} if rank else {}, asked.append
        found["named"], found["asked"] = gather_unreadable((other, None, data), 2), asked
        found["alone"] = evaluate(model, result.state.params, ValData(), Processes())
        torch.save(found, f"{folder}/found-{rank}.pt")
