"""Both monitors in a run of the training loop."""

from blocks.objectives.linear_probes import HEADS_ALONE, LinearProbes
from blocks.objectives.monitored import Monitored
from blocks.optim.sgd import sgd
from blocks.probe.knn_monitor import KnnMonitor
from blocks.probe.probe_accuracy import ProbeAccuracy
from blocks.random import key
from blocks.train.loop import run
from tests.probe.small import CLASSES, HERE, Agreeing, Images, crops, trunk


class TrainData:
    """The face of TrainLoader over made-up crops."""

    batch_size, steps_per_epoch = 8, 2

    def batches(self, start_step=0):
        step = start_step
        while True:
            yield crops(self.batch_size, seed=step)
            step += 1


class Views(Agreeing):
    """What is evaluated besides params is a tree of params too."""

    def evaluated(self, memory):
        return {"teacher": self.model.init(key(5))}


def train(out, epochs):
    objective = Monitored(Views(trunk()), CLASSES)
    evaluate = KnnMonitor(objective.model, Images(16), Images(8, seed=2), HERE, k=(3,))
    return run(objective, sgd(0.1), TrainData(), epochs=epochs, out=out, processes=HERE, evaluate=evaluate)


def test_each_epoch_has_both_accuracies_and_a_run_goes_on_with_its_probe(tmp_path):
    whole = train(tmp_path / "whole", 3)
    train(tmp_path / "parts", 1)
    parts = train(tmp_path / "parts", 3)
    names = ("train_probe_top1", "val_knn3", "teacher_knn3")
    found = [[result.history[-1][name] for name in names] for result in (whole, parts)]
    assert found[0] == found[1]
    assert all(0 < value <= 1 for value in found[0])
    for name in ("weight", "bias"):
        assert whole.state.memory["probe"][name].equal(parts.state.memory["probe"][name])


def test_a_run_of_linear_probes_tells_the_best_one_s_accuracy(tmp_path):
    class Labelled(TrainData):
        def batches(self, start_step=0):
            for batch in super().batches(start_step):
                yield {"images": batch["crops.0"][:, 0], "labels": batch["labels"], "index": batch["index"]}

    probes = LinearProbes(trunk(), CLASSES, heads=2)
    result = run(
        probes, sgd(1.0, lr_scales={"heads.0.*": 1e-6, "heads.1.*": 1.0}), Labelled(), Images(8, seed=2), epochs=2,
        evaluate=ProbeAccuracy(probes, Images(8, seed=2), HERE), out=tmp_path, processes=HERE, frozen=HEADS_ALONE,
    )  # fmt: skip
    last = result.history[-1]
    assert last["val_top1"] == max(last["val_top1_0"], last["val_top1_1"]) == last[f"val_top1_{last['val_best_head']}"]
