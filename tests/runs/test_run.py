"""A run's folder: what it says of itself, and what `Run.open` reads back."""

import json

import attrs
import pytest
import torch

from blocks import ModuleBlock, convit, tree
from blocks.objectives.monitored import Monitored
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.random import key
from blocks.runs import checkpoint, folder
from blocks.runs.folder import About
from blocks.runs.run import Run, beside
from blocks.train.step import init_state
from tests.train.pretraining import OBJECTIVES, TINY

ABOUT = About("small", ["small.py", "--lr", "1"], {"lr": 1.0, "scale": (0.1, 1.0)}, {"seed": 5, "batch_size": 8})
WHERE = {"device": "cpu"}


def model():
    return convit(**TINY, local_up_to_layer=1, num_classes=3)


def begun(place, model=None, start=None):
    said = []
    folder.begin(place, ABOUT, WHERE, model=model, start=start, say=said.append)
    return said


def equal(a, b):
    a, b = tree.flatten(a), tree.flatten(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_a_run_says_of_itself_is_read_back(tmp_path):
    begun(tmp_path / "runs" / "a", model())
    run = Run.open(tmp_path / "runs" / "a")
    assert (run.recipe, run.command, run.facts) == ("small", ("small.py", "--lr", "1"), ABOUT.facts)
    assert run.settings == {"lr": 1.0, "scale": [0.1, 1.0]}
    assert run.environment == {"device": "cpu", "resumed": []}
    assert (run.records, run.attention, run.changed, run.steps) == ((), (), (), ())
    assert run.model() == model()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_params_are_the_models_the_teachers_and_what_the_objective_has_beside(tmp_path, name):
    objective = Monitored(OBJECTIVES[name](), num_classes=6, embed_dim=8)
    state = init_state(objective, adamw(0.1), key(5), ema=True)
    begun(tmp_path, objective.model)
    moved = attrs.evolve(state, params=tree.map(lambda t: t + 1, state.params))
    checkpoint.save(tmp_path, moved, 3, {})
    checkpoint.save(tmp_path, state, 4, {})
    run = Run.open(tmp_path)
    names = tree.flatten(objective.model.init(key(0))).keys()
    wanted = {n: t for n, t in tree.flatten(state.params).items() if n in names}
    assert equal(run.params(), tree.unflatten(wanted))
    assert equal(run.params("ema", step=3), run.params(step=4))
    assert equal(run.params(step=3), tree.map(lambda t: t + 1, run.params()))
    assert set(run.objective_params()) == ({"prototypes"} if name == "swav" else set())
    if name != "swav":
        assert equal(
            run.params("teacher"), tree.unflatten({n: tree.flatten(state.memory["teacher"])[n] for n in names})
        )


@pytest.mark.parametrize("name", [*OBJECTIVES, "supervised"])
def test_fresh_params_are_those_that_the_run_began_with(tmp_path, name):
    objective = Supervised(model()) if name == "supervised" else Monitored(OBJECTIVES[name](), 6, embed_dim=8)
    begun(tmp_path, objective.model)
    params = init_state(objective, adamw(0.1), key(ABOUT.facts["seed"])).params
    fresh = Run.open(tmp_path).fresh_params()
    assert equal(fresh, tree.unflatten({n: t for n, t in tree.flatten(params).items() if n in tree.flatten(fresh)}))


def test_params_that_were_given_to_a_run_are_its_fresh_ones(tmp_path):
    given = model().init(key(77))
    begun(tmp_path, model(), {**given, "heads": {"0": torch.ones(2)}})
    assert equal(Run.open(tmp_path).fresh_params(), given)


def test_a_model_that_cannot_be_described_is_told_and_its_params_are_there(tmp_path):
    said = begun(tmp_path, ModuleBlock(lambda: torch.nn.Linear(2, 2)))
    assert len(said) == 1
    assert said[0].startswith("model.json will not describe the model, which others must build themselves: ")
    own = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    checkpoint.save(tmp_path, {"params": {**own, "prototypes": torch.ones(3)}}, 1, {})
    run = Run.open(tmp_path)
    assert equal(run.params(), own)
    with pytest.raises(ValueError, match=r"does not describe its model.*build the model as the recipe does"):
        run.model()


def test_a_run_that_noted_its_images_tells_how_they_were_cut_and_its_classes(tmp_path):
    begun(tmp_path)
    run = Run.open(tmp_path)
    assert (run.images, run.classes, run.metadata) == ({}, None, {})
    with pytest.raises(ValueError, match=r"has no model\.json: its model is no block, .*; build the model as"):
        run.model()
    cut = {"transform": {"img_size": 8, "crop_pct": 0.5}, "classes": ("cat", "dog")}
    folder.note_images(tmp_path, {"train": cut | {"shards": ["https://me:secret@host/a.tar"]}, "val": cut})
    run = Run.open(tmp_path)
    assert run.images["val"]["transform"] == {"img_size": 8, "crop_pct": 0.5}
    assert run.classes == ("cat", "dog")
    assert run.metadata == {"transform": {"img_size": 8, "crop_pct": 0.5}, "classes": ["cat", "dog"]}
    assert "secret" not in (tmp_path / "images.json").read_text()


def test_an_older_run_tells_how_its_images_were_cut_by_the_settings_of_a_recipe(tmp_path):
    folder.begin(tmp_path, attrs.evolve(ABOUT, settings={"img_size": 8, "crop_pct": 0.5}), WHERE)
    assert Run.open(tmp_path).images == {"val": {"transform": {"img_size": 8, "crop_pct": 0.5}}}


def test_the_epochs_of_a_run_are_its_records_of_whole_ones(tmp_path):
    begun(tmp_path)
    lines = [{"kind": kind, "step": step} for step in (1, 2) for kind in ("step", "epoch")]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    run = Run.open(tmp_path)
    assert run.records == tuple(lines)
    assert run.epochs == (lines[1], lines[3])


def test_a_folder_with_a_checkpoint_or_a_file_of_a_run_s_holds_one(tmp_path):
    assert not folder.is_run(tmp_path)
    checkpoint.save(tmp_path, {"params": {}}, 1, {})
    assert folder.is_run(tmp_path)
    begun(tmp_path / "begun")
    assert folder.is_run(tmp_path / "begun")


def test_a_run_older_than_its_files_gets_them_when_it_goes_on(tmp_path):
    folder.go_on(tmp_path, ABOUT, WHERE, 7)
    run = Run.open(tmp_path)
    assert (run.recipe, run.facts, run.changed) == ("small", ABOUT.facts, ())
    assert run.environment == WHERE | {"resumed": []}


def test_weights_in_a_run_s_folder_are_its_own_and_others_are_no_run_s(tmp_path):
    begun(tmp_path / "run")
    assert beside(tmp_path / "run" / "best.pt").settings["lr"] == 1.0
    (tmp_path / "settings.json").write_text('{"editor": "mine"}')
    assert beside(tmp_path / "model.pth") is None


def test_an_editor_s_settings_beside_weights_are_no_run_s(tmp_path):
    (tmp_path / "settings.json").write_text('{"editor.rulers": [120], // as wide as ours\n}')
    assert beside(tmp_path / "model.pth") is None
    checkpoint.save(tmp_path, {"params": {}}, 1, {})
    with pytest.raises(ValueError, match=r"settings\.json is no JSON"):  # the run's own, and damaged
        beside(checkpoint.latest(tmp_path))


def test_going_on_adds_to_the_story_and_keeps_its_beginning(tmp_path):
    begun(tmp_path)
    folder.go_on(tmp_path, ABOUT, {"device": "cuda:0"}, 7, ["workers was 1, is 2"])
    folder.go_on(tmp_path, ABOUT, {"device": "cuda:1"}, 9)
    run = Run.open(tmp_path)
    assert [(c["step"], c["changes"], c["command"]) for c in run.changed] == [
        (7, ["workers was 1, is 2"], list(ABOUT.command))
    ]
    assert run.environment == {"device": "cpu", "resumed": [{"device": "cuda:0"}, {"device": "cuda:1"}]}
    assert run.settings["lr"] == 1.0


def test_a_new_run_takes_the_place_of_one_that_never_came_to_a_checkpoint(tmp_path):
    begun(tmp_path, model(), model().init(key(1)))
    (tmp_path / "attention.jsonl").write_text('{"step": 0}\n')
    (tmp_path / "notes.txt").write_text("mine")
    begun(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["environment.json", "notes.txt", "settings.json"]


def test_a_run_older_than_these_files_is_read_from_its_checkpoint(tmp_path):
    checkpoint.save(tmp_path, {"params": {"w": torch.ones(1)}}, 2, {"settings": {"lr": 2.0}, "facts": {"seed": 1}})
    run = Run.open(tmp_path)
    assert (run.recipe, run.settings, run.facts, run.steps) == (None, {"lr": 2.0}, {"seed": 1}, (2,))


def test_what_is_no_run_is_clear(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run's folder at"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is no run's folder: it has neither settings\.json nor a checkpoint"):
        Run.open(tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings\.json is no JSON"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"recipe": 1}, "has no settings and has no facts: no run wrote it"),
        ({"settings": [], "facts": {}}, r"says settings \[\], no dict"),
        ({"settings": {}}, "has no facts"),
        ({"settings": {}, "facts": {}, "command": 1}, "says command 1, no list"),
        ({"settings": {}, "facts": {}, "changed": "x"}, "says changed 'x', no list"),
    ],
)
def test_settings_that_no_run_wrote_are_named_with_their_file(tmp_path, content, told):
    (tmp_path / "settings.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"settings\.json {told}"):
        Run.open(tmp_path)


def test_a_checkpoint_that_no_run_wrote_is_named_too(tmp_path):
    checkpoint.save(tmp_path, {"x": torch.zeros(1)}, 1, {})
    with pytest.raises(ValueError, match=r"step-00000001\.pt has no settings and has no facts"):
        Run.open(tmp_path)


def test_a_step_without_checkpoint_and_params_that_were_not_kept_are_clear(tmp_path):
    begun(tmp_path, model())
    with pytest.raises(ValueError, match=r"has no checkpoint; it has those of steps \[\]"):
        Run.open(tmp_path).params()
    checkpoint.save(tmp_path, {"params": model().init(key(0)), "ema": {"w": torch.ones(1)}}, 4, {})
    with pytest.raises(ValueError, match=r"no checkpoint of step 5; it has those of steps \[4\]"):
        Run.open(tmp_path).params(step=5)
    with pytest.raises(ValueError, match="this checkpoint has none"):
        Run.open(tmp_path).params("teacher")
    with pytest.raises(ValueError, match=r"'ema' of .* are no params of its model"):
        Run.open(tmp_path).params("ema")


def test_the_files_are_for_people_too(tmp_path):
    begun(tmp_path, model())
    assert (tmp_path / "settings.json").read_text().count("\n") > 5
    assert json.loads((tmp_path / "model.json").read_text())["params"][0].startswith("patch_embed")
