"""A sweep is the training loop for many runs."""

import weakref

import attrs
import pytest
import torch

from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.clip import ClipNorm
from blocks.optim.schedule import warmup_cosine
from blocks.train.distributed import Processes
from blocks.train.loop import run
from blocks.train.sweep import sweep
from blocks.train.sweep_step import run_of
from tests.train.small_problem import assert_close, same
from tests.train.small_sweep import RUNS, optimizers
from tests.train.tiny import Classifier, TrainData, ValData


def swept(runs, epochs=2, **options):
    steps = TrainData().steps_per_epoch
    chosen = [adamw(warmup_cosine(lr, 1, 2 * steps), weight_decay=decay) for lr, decay, _ in runs]
    options = {"processes": Processes(), "quiet": True, "seeds": [seed for _, _, seed in runs]} | options
    return chosen, lambda: sweep(Supervised(Classifier()), chosen, TrainData(), ValData(), epochs=epochs, **options)


def test_a_sweep_is_the_training_loop_for_many(tmp_path):
    chosen, start = swept(RUNS[1:], clip_norm=1.0)
    found = start()
    for place, (optimizer, (_, _, seed)) in enumerate(zip(chosen, RUNS[1:], strict=True)):
        alone = run(
            Supervised(Classifier()), optimizer, TrainData(), ValData(), epochs=2, out=tmp_path / str(place),
            processes=Processes(), seed=seed, clip_norm=1.0,
        )  # fmt: skip
        assert_close(run_of(found.state.params, place), alone.state.params, rtol=0, atol=1e-5)
        for epoch, record in enumerate(alone.history):
            for name in ("loss", "top1", "grad_norm"):
                assert found.curves[name][epoch, place].item() == pytest.approx(record[f"train_{name}"], abs=1e-5)
        assert found.scores[place]["top1"] == record["val_top1"]
        assert found.scores[place]["loss"] == pytest.approx(record["val_loss"], abs=1e-5)


def test_a_sweep_tells_a_good_rate_from_bad_ones():
    _, start = swept([(1e-6, 0.0, 0), (1e-2, 0.0, 0), (1e4, 0.0, 0)], epochs=4)
    found = start()
    assert found.curves["loss"].shape == (4, 3)
    assert found.curves["loss"][-1].argmin() == 1
    assert min(score["loss"] for score in found.scores) == found.scores[1]["loss"]


class Streamed:
    """Validation images that count how many of their batches are still held when the next is asked for."""

    def __init__(self):
        self.batches, self.most, self.passes = list(ValData()), 0, 0

    def __iter__(self):
        seen = []
        self.passes += 1
        for batch in self.batches:
            own = {name: value.clone() for name, value in batch.items()}
            seen.append(weakref.ref(own["images"]))
            yield own
            del own
            self.most = max(self.most, sum(ref() is not None for ref in seen))


def test_validation_images_are_read_once_and_not_kept():
    chosen, _ = swept(RUNS)
    streamed, one = Streamed(), dict(epochs=1, processes=Processes(), seeds=7, quiet=True)
    found = sweep(Supervised(Classifier()), chosen, TrainData(), streamed, **one)
    assert len(streamed.batches) > 2
    assert (streamed.most, streamed.passes) == (1, 1)
    assert found.scores == sweep(Supervised(Classifier()), chosen, TrainData(), ValData(), **one).scores


def test_one_seed_serves_all_runs_and_no_validation_is_needed():
    chosen, _ = swept(RUNS)
    found = sweep(
        Supervised(Classifier()), chosen, TrainData(), epochs=1, processes=Processes(), seeds=7, quiet=True
    )  # fmt: skip
    assert found.scores == []
    assert len(found.state.key.unique(dim=0)) == 1


def test_an_epoch_with_a_step_that_is_not_finite_has_no_mean_and_the_stream_is_closed(capsys):
    def poison(step, images):
        return images * torch.nan if step == 4 else images

    data = TrainData(poison=poison)
    chosen, _ = swept(RUNS)
    found = sweep(Supervised(Classifier()), chosen, data, epochs=3, processes=Processes(), seeds=[1, 2, 3, 4])
    assert found.curves["loss"].isfinite().all(1).tolist() == [True, False, True]
    assert found.state.skipped.tolist() == [0, 0, 0, 0]
    assert data.closed
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3
    assert lines[0] == f"epoch   1  {best_to_worst(found.curves['loss'][0])}"
    assert lines[1] == "epoch   2  loss not finite in any of 4 runs"


def test_a_run_that_is_lost_is_neither_best_nor_worst(capsys):
    _, start = swept([(1e-2, 0.0, 0), (1e38, 0.0, 0), (1e-3, 0.0, 1)], quiet=False)
    losses = start().curves["loss"][1]
    assert losses.isfinite().tolist() == [True, False, True]
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch   2"))
    assert line == f"epoch   2  {best_to_worst(losses)}; not finite in 1"


def best_to_worst(losses):
    """What an epoch's line says of its runs' losses."""
    found = [(loss, run) for run, loss in enumerate(losses.tolist()) if loss == loss]
    (low, best), (high, worst) = min(found), max(found)
    return f"loss {low:.4f} (run {best}) to {high:.4f} (run {worst})"


def test_a_clip_is_every_runs():
    found, expected = (swept(RUNS[1:3], epochs=1, **how)[1]() for how in ({"clip": ClipNorm(0.3)}, {"clip_norm": 0.3}))
    assert same(found.state, expected.state)
    assert (found.curves["grad_norm"] > 0.3).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs 0"),
        ({"seeds": [1, 2]}, "4 optimizers and 2 seeds"),
        ({"clip_norm": 0.0}, r"clip_norm 0\.0"),
        ({"processes": Processes(0, 2)}, "in one process, not in 2"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(change, message):
    with pytest.raises(ValueError, match=message):
        swept(RUNS, **change)[1]()


@attrs.frozen
class Modelless:
    """An objective without `model`."""

    supervised: Supervised

    def init(self, key):
        return self.supervised.init(key)

    def loss(self, params, memory, batch, key):
        return self.supervised.loss(params, memory, batch, key)


def test_only_validation_data_want_a_model_to_score():
    about = {"epochs": 1, "processes": Processes(), "quiet": True}
    with pytest.raises(ValueError, match="Modelless has no `model`"):
        sweep(Modelless(Supervised(Classifier())), optimizers(), TrainData(), ValData(), **about)
    found, expected = (
        sweep(o, optimizers(), TrainData(), **about)
        for o in (Modelless(Supervised(Classifier())), Supervised(Classifier()))
    )
    assert same(found.state, expected.state)
