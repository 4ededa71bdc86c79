"""Contract 5: a run can stop anywhere, by a real kill -9 too, and goes on to the very state it would have had."""

from pathlib import Path

import pytest
import torch

from blocks import tree
from blocks.runs import checkpoint
from blocks.runs.records import read
from blocks.train.resume import check_same_run, newest, with_loss_scale
from tests.train import programs
from tests.train.pretraining import OBJECTIVES, pretrain
from tests.train.small_problem import setup
from tests.train.tiny import ValData, numbers, train


def test_an_empty_value_is_seen():
    saved, now = ({"facts": {}, "settings": {"decoded": value}} for value in ("", "device"))
    with pytest.raises(ValueError, match=r"another run: decoded was '', is device\. "):
        check_same_run(saved, now, "step.pt")
    with pytest.raises(ValueError, match=r"another run: decoded was device, is ''\. "):
        check_same_run(now, saved, "step.pt")


def test_more_epochs_are_another_run_and_the_way_out_is_told():
    """The schedule is one of all epochs: at the end of the shorter run it has nothing left to give."""
    saved, now = ({"facts": {}, "settings": {"epochs": epochs, "lr": 0.1}} for epochs in (40, 60))
    with pytest.raises(ValueError, match=r"epochs was 40, is 60\. .*; to train on, .* --weights runs/x --out ANOTHER$"):
        check_same_run(saved, now, "runs/x/step-00000003.pt")
    now["settings"] |= {"epochs": 40, "lr": 0.2}
    with pytest.raises(ValueError, match=r"lr was 0.1, is 0.2\. .* another output folder \(--out\)$"):
        check_same_run(saved, now, "runs/x/step-00000003.pt")


def test_a_setting_that_json_does_not_know_is_compared_by_its_text():
    saved = {"facts": {}, "settings": {"place": "a/b", "scale": [1, 2]}}
    assert check_same_run(saved, {"facts": {}, "settings": {"place": Path("a/b"), "scale": (1, 2)}}, "step.pt") == []
    with pytest.raises(ValueError, match="place was a/b, is c"):
        check_same_run(saved, {"facts": {}, "settings": {"place": Path("c")}}, "step.pt")


def test_a_checkpoint_s_loss_scale_is_taken_where_the_run_still_wants_one():
    half, full = (setup(precision=precision)[2] for precision in ("float16", "float32"))
    saved = tree.flatten(half) | {"loss_scale.scale": torch.tensor(3.0)}
    assert with_loss_scale(saved, half)["loss_scale.scale"] == 3.0
    assert with_loss_scale(saved, full).keys() == tree.flatten(full).keys()
    fresh = with_loss_scale(tree.flatten(full), half)
    assert fresh.keys() == saved.keys()
    assert torch.equal(fresh["loss_scale.scale"], half.loss_scale["scale"])


def test_a_checkpoint_that_the_first_process_alone_sees_is_an_error(tmp_path, monkeypatch):
    """As when each machine of a cluster writes to a disk of its own: the others would begin anew."""
    theirs = checkpoint.save(tmp_path / "theirs", {}, 3, {})
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", lambda box, src: box.__setitem__(src, theirs))
    assert newest(tmp_path / "mine", 2) == theirs
    theirs.unlink()
    with pytest.raises(FileNotFoundError, match=r"step-00000003\.pt is on the first process's machine only"):
        newest(tmp_path / "mine", 2)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The final state of the uninterrupted run."""
    return train(tmp_path_factory.mktemp("straight"), val_data=ValData())


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """{program: folder} of runs that were killed; all at once, to save time."""
    names = ("killed_in_mid_epoch", "killed_before_the_rename", "killed_while_writing")
    folders = {name: tmp_path_factory.mktemp(name) for name in names}
    codes = programs.wait(*(programs.start(getattr(programs, name), folder) for name, folder in folders.items()))
    assert codes == [-9, -9, -9]
    return folders


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("killed_in_mid_epoch", {"step-00000003.pt", "step-00000004.pt"}),
        ("killed_before_the_rename", {"step-00000003.pt", "step-00000004.pt", "step-00000006.tmp"}),
        ("killed_while_writing", {"step-00000003.pt", "step-00000004.pt", "step-00000006.tmp"}),
    ],
)
def test_a_killed_run_goes_on_to_the_state_of_the_uninterrupted_one(killed, straight, name, left):
    folder = killed[name]
    assert {p.name for p in folder.glob("step-*")} == left
    result = train(folder, val_data=ValData())
    found, wanted = tree.flatten(result.state), tree.flatten(straight.state)
    assert found.keys() == wanted.keys()
    assert [n for n in wanted if not torch.equal(found[n], wanted[n])] == []
    assert {p.name for p in folder.glob("step-*")} == {"step-00000009.pt", "step-00000012.pt"}
    records = read(folder / "metrics.jsonl")
    assert [r["step"] for r in records if r["kind"] == "step"] == list(range(1, 13))
    assert [r["epoch"] for r in records if r["kind"] == "epoch"] == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def killed_pretraining(tmp_path_factory):
    """{objective: folder} of pretraining runs that were killed."""
    folders = {name: tmp_path_factory.mktemp(name) for name in OBJECTIVES}
    runs = [programs.start(programs.killed_while_pretraining, folder, name) for name, folder in folders.items()]
    assert programs.wait(*runs) == [-9] * len(runs)
    return folders


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_killed_pretraining_goes_on_with_queue_teacher_centre_and_probe(killed_pretraining, name, tmp_path):
    assert checkpoint.latest(killed_pretraining[name]).name == "step-00000004.pt"
    found = tree.flatten(pretrain(killed_pretraining[name], name).state)
    wanted = tree.flatten(pretrain(tmp_path, name).state)
    assert found.keys() == wanted.keys()
    assert [n for n in wanted if not torch.equal(found[n], wanted[n])] == []
    kinds = {"moco": "teacher queue moments probe", "swav": "queue moments probe", "dino": "teacher centre probe"}
    assert all(any(n.startswith(f"memory.{kind}") for n in wanted) for kind in kinds[name].split())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """(folder, what each of two processes found)."""
    folder = tmp_path_factory.mktemp("two")
    assert programs.wait(*(programs.start(programs.one_of_two, rank, folder) for rank in (0, 1))) == [0, 0]
    return folder, [torch.load(folder / f"found-{rank}.pt") for rank in (0, 1)]


def test_processes_stop_together_when_one_is_asked_and_another_number_of_them_goes_on(two, straight):
    folder, found = two
    assert [f["finished"] for f in found] == [False, False]
    assert [int(f["step"]) for f in found] == [5, 5]
    assert numbers(found[0]["history"]) == numbers(found[1]["history"])
    assert checkpoint.latest(folder / "run").name == "step-00000005.pt"
    result = train(folder / "run", val_data=ValData())
    for name, wanted in tree.flatten(straight.state).items():
        # two processes sum in another order: rounding, amplified by Adam
        torch.testing.assert_close(tree.flatten(result.state)[name], wanted, rtol=1e-4, atol=1e-5)
    for mine, wanted in zip(result.history, straight.history, strict=True):
        assert mine["train_loss"] == pytest.approx(wanted["train_loss"], rel=1e-5)
        assert mine["val_images"] == wanted["val_images"] == 10


@pytest.mark.parametrize("shares", ["all_to_one", "uneven"])
def test_evaluation_over_two_processes_counts_every_image_once(two, shares):
    """Also where a process has fewer batches than the other, or none."""
    _, found = two
    assert found[0][shares] == found[1][shares]
    together, alone = found[0][shares], found[0]["alone"]
    assert together["images"] == alone["images"] == 10
    assert (together["top1"], together["top5"]) == (alone["top1"], alone["top5"])
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-6)
    assert (together["unreadable"], alone["unreadable"]) == (2, 0)


def test_what_either_process_could_not_read_is_named_on_both_and_asked_of_its_own_loader(two):
    _, found = two
    named = {"torn": "truncated", "image 0": "unreadable", "image 1": "unreadable"}
    assert [f["named"] for f in found] == [named] * 2
    assert [f["asked"] for f in found] == [[{"torn": "truncated"}]] * 2
