"""A run's folder to a page: which sections it has, what they say, and what is said of what is missing."""

import json
import re
import shutil

import attrs
import numpy as np
import PIL.Image
import pytest
import torch.distributed as dist

from blocks.data import EvalLoader, EvalTransform, open_shards
from blocks.report import chapters, write, write_report
from blocks.report.__main__ import main
from blocks.report.chapters import Chapter
from blocks.report.contents import CHAPTERS
from blocks.report.material import Live, Material
from blocks.report.parts import Absent, Drawing, Remark
from blocks.runs import folder
from blocks.runs.run import Run
from tests.report import tiny_runs
from tests.report.reading import check

SILENT = dict(say=lambda text: None)
CUT = EvalTransform(8, 0.5)


def remarks(page):
    """What a page says is not shown."""
    return [line.strip() for line in page.text.splitlines() if line.startswith("Not shown")]


def chapter_of(name):
    """The chapter that makes something of this name."""
    return next(chapter for chapter in CHAPTERS if name in chapter.makers)


def only(name):
    """The same, with nothing else in it."""
    return attrs.evolve(chapter_of(name), makers={name: chapter_of(name).makers[name]})


def test_a_run_with_labels_has_its_sections_and_all_their_pictures(supervised, supervised_page):
    page = check(supervised_page.read_text())
    assert page.headings == ["Result", "Attention", "Locality", "Right and wrong", "The run"]
    assert remarks(page) == []
    names = {attributes["id"] for tag, attributes in page.tags if tag == "figure"}
    assert names == {path.stem for path in (supervised / "report").glob("*.png")}
    assert {"curves", "attention-class", "gates", "kernels-before", "confusion", "best"} <= names


def test_a_page_is_small(supervised_page):
    assert supervised_page.stat().st_size < 3e6


def test_what_a_page_says_of_accuracy_is_what_the_model_does(supervised, supervised_page):
    run = Run.open(supervised)
    found = Material(run).logits
    right = int((found.values.argmax(1) == found.labels).sum())
    assert len(found) == 24
    assert f"Of 24 validation images {right} are classified right" in check(supervised_page.read_text()).text


COMMAND = (
    "command recipes/tiny.py --lr 1e-3 --data &#x27;shards/*.tar&#x27; --policy &#x27;&#x27;"  # as a shell takes it
)


def test_the_settings_and_the_last_metrics_are_in_the_page(supervised_page):
    page = check(supervised_page.read_text())
    cells = [re.sub("<[^>]*>", " ", row).split() for row in supervised_page.read_text().split("<tr>")]
    for row in ("val_top1 50.00% 50.00% 2", "lr 0.001", "versions.torch 2", COMMAND):
        assert any(cell[: len(row.split())] == row.split() for cell in cells), row
    assert "tiny_recipe: convit" in page.text


def test_a_class_name_cannot_break_the_page(supervised_page):
    assert "<b>owl" not in supervised_page.read_text()


def test_a_self_supervised_run_shows_neighbours_and_prototypes(swav_run):
    material = Material(Run.open(swav_run))
    assert [chapter.title for chapter in CHAPTERS if chapter.fits(material)] == [
        "Result",
        "Attention",
        "Alike",
        "The run",
    ]
    neighbours, prototypes = chapters.written(chapter_of("Prototypes"), material).parts
    assert re.search(r"among 24 training images; \d+ of these 48 are of its class", neighbours.sentence)
    assert re.search(
        r"^Prototypes that are the nearest to some of 24 validation images: [1-5] of 5\.", prototypes.sentence
    )


@pytest.fixture
def left_alone(monkeypatch):
    """The first of two processes, of which the other never answers: to exchange anything with it raises."""
    for name, value in {"is_initialized": True, "get_rank": 0, "get_world_size": 2}.items():
        monkeypatch.setattr(dist, name, lambda value=value: value)


@pytest.mark.usefixtures("left_alone")
def test_a_report_at_the_end_of_a_run_of_several_processes_never_waits_for_the_others(swav_run, data, tmp_path):
    for place in (swav_run, tiny_runs.dino(tmp_path / "dino", data, norm="batch")):
        (said,) = chapters.written(only("Prototypes"), Material(Run.open(place))).parts
        assert "python -m blocks.report" in said.text


@pytest.mark.usefixtures("left_alone")
def test_prototypes_of_a_head_without_batch_norm_are_shown_at_the_end_of_a_run_of_several_processes(data, tmp_path):
    run = Run.open(tiny_runs.dino(tmp_path / "dino", data, norm=None))
    (prototypes,) = chapters.written(only("Prototypes"), Material(run)).parts
    assert prototypes.name == "prototypes"


def test_a_run_whose_settings_leave_the_images_size_to_its_model_has_its_pictures(data, tmp_path):
    run = tiny_runs.probe(tmp_path / "probe", data)
    page = check(write_report(run, **SILENT).read_text())
    (said,) = remarks(page)
    assert said.endswith("The reason: the model has no classifier of its own.")
    assert {"attention-class", "attention-distance", "patch-pca", "kernels-after"} <= set(page.ids)


def test_given_pictures_without_classes_are_looked_at_and_nothing_is_said_of_their_classes(swav_run, tmp_path):
    for number, noise in enumerate(np.random.default_rng(0).integers(0, 256, (9, 10, 12, 3), np.uint8)):
        PIL.Image.fromarray(noise).save(tmp_path / f"{number}.png")
    material = Material(Run.open(swav_run), given=tmp_path)
    (neighbours,) = chapters.written(only("Nearest neighbours"), material).parts
    assert neighbours.sentence.endswith(f"among 9 images of {tmp_path}.")


def test_images_that_are_not_there_are_a_mistake_and_the_page_of_others_stays(supervised, tmp_path, capsys):
    (tmp_path / "report.html").write_text("of other images")
    assert main([str(supervised), "--images", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_text() == "of other images"


def test_labels_of_given_images_count_only_where_they_mean_the_runs_classes(supervised, data, tmp_path):
    for name in ("cat", "wolf"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        PIL.Image.new("RGB", (9, 9)).save(tmp_path / "photos" / name / "1.png")
    classified = only("Confusion matrix")
    found = chapters.written(classified, Material(Run.open(supervised), given=tmp_path / "photos"))
    assert "are not known to be the run's" in found.parts[0].text
    found = chapters.written(classified, Material(Run.open(supervised), given=data))
    assert found.parts[0].name == "confusion"


def test_without_its_data_a_page_says_which_pictures_are_left_out_and_how_to_have_them(supervised, tmp_path):
    run = attrs.evolve(Run.open(supervised), settings={"data": str(tmp_path / "gone"), "img_size": 8})
    (said,) = chapters.written(chapter_of("Attention distance"), Material(run)).parts
    assert said.text.startswith("Not shown: Attention on an image, Attention distance, Principal components.")
    assert str(tmp_path / "gone") in said.text
    assert "--images" in said.text


def test_what_a_page_leaves_out_is_told_where_the_report_is_made_too(supervised, tmp_path, monkeypatch):
    shutil.copytree(supervised, tmp_path / "run")
    (tmp_path / "run" / "model.json").write_text('{"model": null, "params": []}')
    monkeypatch.setattr(write, "CHAPTERS", (chapter_of("Attention distance"), only("Confusion matrix")))
    said = []
    write_report(tmp_path / "run", say=said.append)
    first, *lines = said[0].splitlines()
    assert first.startswith("report: ")
    assert [line.partition(":")[0] for line in lines] == [
        "  without Attention on an image, Attention distance, Principal components, Confusion matrix"
    ]
    assert "does not describe its model" in lines[0]


def test_a_run_by_other_settings_shows_the_shards_that_it_noted_as_its_evaluation_saw_them(data, tmp_path):
    run = tiny_runs.write_run(tmp_path, tiny_runs.convit(), data)
    settings = {"photos": data}
    loaders = {half: EvalLoader(open_shards(data, half), batch_size=4, transform=CUT) for half in ("train", "val")}
    folder.note_images(run, {half: loader.description for half, loader in loaders.items()})
    material = Material(attrs.evolve(Run.open(run), settings=settings))
    train, val = material.own
    assert (len(train), len(val), train.name, val.name) == (24, 24, "training images", "validation images")
    assert val.seen["transform"] == CUT


def test_what_trains_shows_its_model_and_its_cut_even_where_no_file_can_tell_them(data, tmp_path):
    run = tiny_runs.write_run(tmp_path, tiny_runs.convit(), data)
    (run / "model.json").write_text('{"model": null, "params": []}')
    folder.note_images(run, {"val": {"transform": "MyTransform"}})
    alone = Material(Run.open(run))
    with pytest.raises(Absent, match="does not describe its model"):
        _ = alone.model
    with pytest.raises(Absent, match="were cut by MyTransform"):
        _ = alone.seen
    live = Material(Run.open(run), live=Live(tiny_runs.convit(), {"transform": CUT}))
    assert live.model == tiny_runs.convit()
    assert live.images.seen == {"transform": CUT}


def test_other_images_have_a_page_of_their_own(supervised, supervised_page, data, monkeypatch):
    monkeypatch.setattr(write, "CHAPTERS", ())
    before = supervised_page.read_text()
    assert write_report(supervised, images=data, **SILENT) == supervised / "report-images" / "report.html"
    assert supervised_page.read_text() == before


def test_an_older_page_s_pictures_go_and_somebody_s_own_stay(data, tmp_path, monkeypatch):
    run = tiny_runs.write_run(tmp_path, tiny_runs.convit(), data)
    page = write_report(run, **SILENT)
    assert (page.parent / "confusion.png").is_file()
    (page.parent / "mine.png").write_bytes(b"mine")
    monkeypatch.setattr(write, "CHAPTERS", ())
    write_report(run, **SILENT)
    assert [path.name for path in page.parent.glob("*.png")] == ["mine.png"]


def test_weights_that_a_run_does_not_have_are_told(supervised):
    found = chapters.written(only("Confusion matrix"), Material(Run.open(supervised), which="ema"))
    assert found.parts[0].text.startswith("Not shown: Confusion matrix. The reason: ")


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"settings": {"epochs": 3}, "facts": {}}))
    page = check(write_report(tmp_path, **SILENT).read_text())
    assert page.headings[0] == "Result"
    assert "No epoch is finished" in page.text


def test_a_folder_that_is_no_runs_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("error: ") == 2


def test_a_part_that_fails_is_told_in_its_place_and_the_others_stay():
    def fails(material):
        yield Remark("before")
        raise RuntimeError("out of ink")

    def draws(material):
        return [Drawing("n", "t", lambda: 1 / 0, "s")]

    def lacks(material):
        raise Absent("there is none")

    makers = {"A": fails, "B": draws, "C": lacks, "D": lacks, "E": lambda material: [Remark("kept")]}
    found = chapters.written(Chapter("T", "", makers), None)
    assert [part.text for part in found.parts] == [
        "kept",
        "Not shown: A. The reason: it failed with RuntimeError: out of ink.",
        "Not shown: B. The reason: it failed with ZeroDivisionError: division by zero.",
        "Not shown: C, D. The reason: there is none.",
    ]


def test_compared_runs_show_the_settings_that_differ_and_both_metrics(supervised, data, tmp_path):
    other = tiny_runs.write_run(tmp_path / "convit", tiny_runs.convit(), data, lr=2e-3, clip=0)
    material = Material(Run.open(supervised), [Run.open(other)])
    settings, metrics = chapters.written(chapter_of("Settings that differ"), material).parts
    assert settings.rows == [("lr", 1e-3, 2e-3), ("clip", "not a setting there", 0)]
    assert len(set(settings.columns)) == 3  # both folders are called convit
    assert ("val_top1", "50.00%", "50.00%") in metrics.rows
    (curves,) = chapters.written(only("Curves"), material).parts
    assert curves.name == "curves"


def test_a_run_compared_goes_beside_its_own_report(supervised, monkeypatch):
    monkeypatch.setattr(write, "CHAPTERS", ())
    assert write_report(supervised, others=[supervised], **SILENT) == supervised / "comparison" / "report.html"
