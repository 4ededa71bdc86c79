"""The loop does not go on from another run, and tells what may differ."""

import hashlib
import importlib.util
import sys
from typing import ClassVar

import attrs
import pytest

from blocks.optim.sgd import sgd
from blocks.runs.run import Run
from tests.train.tiny import IMAGES, Classifier, Remembering, TrainData, ask_to_stop, train


@attrs.frozen
class Comparing(Remembering):
    compares_images: ClassVar[bool] = True


def test_another_accumulate_is_refused_where_the_loss_compares_images_and_told_where_not(tmp_path, capsys):
    train(tmp_path / "alone", epochs=1, settings={"accumulate": 1})
    train(tmp_path / "alone", epochs=1, settings={"accumulate": 2}, accumulate=2)
    assert "accumulate was 1, is 2" in capsys.readouterr().out
    comparing = Comparing(Classifier())
    train(tmp_path / "together", epochs=1, objective=comparing)
    with pytest.raises(ValueError, match="another run: accumulate was 1, is 2"):
        train(tmp_path / "together", epochs=1, objective=comparing, accumulate=2)


def test_how_many_processes_there_are_counts_where_micro_batches_are_compared(tmp_path):
    comparing = Comparing(Classifier())
    for accumulate in (1, 2):
        train(tmp_path / str(accumulate), epochs=1, objective=comparing, accumulate=accumulate)
        assert Run.open(tmp_path / str(accumulate)).facts.get("world_size") == {1: None, 2: 1}[accumulate]


def test_another_batch_size_seed_or_setting_is_refused_with_both_values(tmp_path):
    train(tmp_path, epochs=1, settings={"lr": 0.1, "workers": 2, "scale": (0.1, 1.0)})
    other = TrainData(batch_size=4)
    with pytest.raises(
        ValueError, match=r"another run: seed was 3, is 4; batch_size was 8, is 4; .*; lr was 0.1, is 0.2\. "
    ):
        train(tmp_path, epochs=1, train_data=other, seed=4, settings={"lr": 0.2, "scale": (0.1, 1.0)})
    with pytest.raises(ValueError, match=r"steps_per_epoch was 3, is 6"):
        train(tmp_path, epochs=1, train_data=TrainData(num_samples=2 * IMAGES))


def test_another_place_and_number_of_workers_is_told_and_allowed(tmp_path, capsys):
    train(tmp_path, epochs=1, settings={"workers": 2, "scale": (0.1, 1.0)})
    train(tmp_path, epochs=1, settings={"workers": 8, "scale": (0.1, 1.0)})
    assert "workers was 2, is 8" in capsys.readouterr().out


def test_another_models_checkpoint_is_refused(tmp_path):
    train(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"another run: objective\.model\.classes was 6, is 7\. "):
        train(tmp_path, epochs=1, objective=Remembering(Classifier(7)))


def test_an_edit_of_what_a_recipe_is_made_of_is_refused_though_no_setting_shows_it(tmp_path):
    train(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"objective\.model\.drop_rate was 0\.25, is 0\.5"):
        train(tmp_path, epochs=1, objective=Remembering(Classifier(drop_rate=0.5)))
    train(tmp_path / "sgd", epochs=1, optimizer=sgd(0.1))
    with pytest.raises(ValueError, match=r"optimizer\.schedule\.value was 0\.1, is 0\.2"):
        train(tmp_path / "sgd", epochs=1, optimizer=sgd(0.2))
    with pytest.raises(ValueError, match=r"optimizer was AdamW, is SGD"):
        train(tmp_path, epochs=1, optimizer=sgd(0.1))
    with pytest.raises(ValueError, match=r"clip_norm was 1\.0, is 3\.0"):
        train(tmp_path, epochs=1, clip_norm=3.0)
    with pytest.raises(ValueError, match=r"frozen was 0, is 1"):
        train(tmp_path, epochs=1, frozen=("head.weight",))


def test_an_edit_of_a_recipe_s_file_is_told(tmp_path, capsys):
    recipe = tmp_path / "recipe.py"
    text = "from blocks.train.options import RunOptions\nclass Recipe(RunOptions):\n    pass\n"
    for number in range(2):
        recipe.write_text(text + "# edited\n" * number)
        options = loaded(recipe, f"recipe{number}").Recipe(out=str(tmp_path / "run"), report=False)
        train(tmp_path / "run", epochs=1, options=options)
    digests = [hashlib.sha256((text + "# edited\n" * number).encode()).hexdigest()[:12] for number in range(2)]
    said = f"resuming with another setting: the recipe's code was {digests[0]}, is {digests[1]}"
    assert said in " ".join(capsys.readouterr().out.split())


def loaded(path, name):
    """The module of a file."""
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_without_resume_does_not_mix_with_another(tmp_path):
    train(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"holds a run already, at step-00000003\.pt; go on from it with resume"):
        train(tmp_path, epochs=1, resume=False)


def test_facts_of_the_data_belong_to_the_run(tmp_path):
    """A shuffle window, say: with another one the rest of the run would see other samples."""
    data = ask_to_stop(4)
    data.facts = {"shuffle_window": 1000, "num_samples": IMAGES}
    assert not train(tmp_path, train_data=data).finished
    other = TrainData()
    other.facts = {"shuffle_window": None, "num_samples": IMAGES}
    with pytest.raises(ValueError, match="from another run: shuffle_window was 1000, is None"):
        train(tmp_path, train_data=other)
    other.facts = {"shuffle_window": 1000, "num_samples": IMAGES}
    assert train(tmp_path, train_data=other).finished
