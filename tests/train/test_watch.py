"""attention.jsonl: a line at the start and each epoch, each once, whatever stops the run."""

import os
import signal

import attrs
import pytest
import torch
from PIL import Image

from blocks.data import EvalTransform, PictureLoader
from blocks.objectives.supervised import Supervised
from blocks.runs.run import Run
from blocks.train.watch import first_images
from blocks.trunks.convit import convit
from tests.train.pretraining import TINY
from tests.train.tiny import TrainData, ValData, train


def watched(folder, poison=lambda step, images: images, **knobs):
    objective = Supervised(convit(**TINY, local_up_to_layer=1, num_classes=6))
    data = TrainData(poison=poison)
    train(folder, train_data=data, val_data=ValData(), objective=objective, ema_decay=None, **knobs)
    return Run.open(folder).attention


def stop_at(at, how):
    def poison(step, images):
        if step == at:
            how()
        return images

    return poison


def test_every_epoch_has_its_line(tmp_path):
    found = watched(tmp_path)
    assert [(line["epoch"], line["step"]) for line in found] == [(e, 3 * e) for e in range(5)]
    assert torch.tensor(found[0]["gates"]).shape == (1, 2)
    assert torch.tensor(found[0]["attention_distance"]).shape == (2, 2)
    assert found[0]["gates"] != found[-1]["gates"]


@pytest.mark.parametrize("at", [4, 5], ids=["in mid-epoch", "at an epoch's end"])
def test_an_interrupted_run_has_the_lines_of_the_uninterrupted_one(tmp_path, at):
    watched(tmp_path / "cut", stop_at(at, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert watched(tmp_path / "cut") == watched(tmp_path / "whole")


def fail():
    raise OSError("the disk is gone")


def test_a_run_that_broke_before_and_after_a_checkpoint_has_no_line_twice(tmp_path):
    for at in (1, 4):
        with pytest.raises(OSError, match="disk"):
            watched(tmp_path / "cut", stop_at(at, fail))
    assert watched(tmp_path / "cut") == watched(tmp_path / "whole")


def test_a_finished_run_that_is_started_again_has_no_line_twice(tmp_path):
    before = watched(tmp_path)
    assert watched(tmp_path) == before


def test_a_model_without_attention_has_no_file(tmp_path):
    train(tmp_path, epochs=1, val_data=ValData())
    assert not (tmp_path / "attention.jsonl").exists()


def test_without_evaluation_images_there_is_no_file(tmp_path):
    objective = Supervised(convit(**TINY, local_up_to_layer=1, num_classes=6))
    train(tmp_path, epochs=1, objective=objective, ema_decay=None)
    assert not (tmp_path / "attention.jsonl").exists()


@attrs.frozen
class Loader:
    """Nine images in batches."""

    batch_size: int = 2
    num_workers: int = 3
    decoded: str | None = "disk"

    def __iter__(self):
        assert (self.num_workers, self.decoded) == (0, None)
        return iter([{"images": images} for images in torch.arange(9.0).split(self.batch_size)])


def test_the_first_images_of_a_loader_are_made_without_its_workers_and_in_one_batch():
    assert first_images(Loader(), 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert len(first_images(Loader(), 20)) == 9


def test_a_loader_that_keeps_nothing_decoded_shows_its_images_too(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    loader = PictureLoader([tmp_path / "a.png"] * 3, batch_size=2, transform=EvalTransform(8), num_workers=1)
    assert first_images(loader, 3).shape == (3, 3, 8, 8)


def test_of_other_batches_the_first_is_looked_at_and_copied():
    images = torch.arange(4.0)
    found = first_images([{"images": images}], 3)
    images.zero_()
    assert found.tolist() == [0, 1, 2]
    assert len(first_images([], 3)) == 0
