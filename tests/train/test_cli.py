"""The command line of a recipe."""

import re
import sys
from pathlib import Path
from typing import Literal

import attrs
import pytest

from blocks.train.cli import cli
from blocks.train.fields import flags

SCRIPT = Path(__file__).name


@attrs.frozen
class Recipe:
    """Some fields."""

    data: str = "digits"  # training shards: 50 % of them
    epochs: int = attrs.field(default=300)
    batch_size: int = 1024  # global: over all processes
    lr: float = 5e-4  # per 512 images
    size: Literal["small", "base"] = "small"
    clip: float | None = None
    betas: tuple[float, float] = (
        0.9,
        0.999,
    )  # of Adam
    crops: tuple[int, ...] = (2,)
    ema: bool = True  # keep an average
    compile: bool | Literal["loss", "step"] = False

    @epochs.validator
    def _positive(self, _, value):
        if value < 1:
            raise ValueError(f"epochs {value} is no number of epochs; use 1 or more")


PRESETS = {"data": {"digits": {"epochs": 30, "lr": 8e-3}}}


@pytest.fixture(autouse=True)
def _own_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)


def complaint(capsys, *argv):
    """The one line that a mistake gives."""
    with pytest.raises(SystemExit) as stop:
        cli(Recipe, argv)
    text = capsys.readouterr().err
    assert stop.value.code == 2
    assert text.count("\n") == 1
    return text.strip()


def test_no_flag_gives_the_defaults():
    assert cli(Recipe, []) == Recipe()


def test_every_type_of_field_is_read():
    line = "--data x --epochs 5 --lr 1e-3 --size base --clip 0.5 --betas 0.8 0.9 --crops 2,6,8 --no-ema --batch_size=8"
    wanted = Recipe("x", 5, 8, 1e-3, "base", 0.5, (0.8, 0.9), (2, 6, 8), False)
    assert cli(Recipe, line.split()) == wanted


@pytest.mark.parametrize("argv", [["--batch-size", "64"], ["--batch_size", "64"], ["--batch-size=64"]])
def test_a_flag_is_written_with_hyphen_or_underscore(argv):
    assert cli(Recipe, argv).batch_size == 64


@pytest.mark.parametrize(("argv", "value"), [("--ema", True), ("--ema true", True), ("--ema false", False)])
def test_a_bool_may_carry_its_value(argv, value):
    assert cli(Recipe, argv.split()).ema is value


@pytest.mark.parametrize(
    ("argv", "value"), [("", False), ("--compile", True), ("--compile step", "step"), ("--no-compile", False)]
)
def test_a_bool_may_have_choices_beside_it(argv, value):
    assert cli(Recipe, argv.split()).compile == value


def test_none_is_the_absence_of_an_optional_value():
    assert cli(Recipe, ["--clip", "none"]).clip is None


def test_a_flag_takes_its_own_default_as_the_help_shows_it(capsys):
    @attrs.frozen
    class Shown:
        milestones: tuple[int, ...] = ()
        names: tuple[str, ...] = attrs.field(factory=tuple)
        betas: tuple[float, ...] = (0.9, 0.999)
        clip: float | None = None
        ema: bool = True
        compile: bool | Literal["loss"] = False
        size: Literal["small", "base"] = "base"
        place: Path = Path("a")

    with pytest.raises(SystemExit):
        cli(Shown, ["--help"])
    shown = re.findall(r"(--\w+) [^(-]*\(default: ([^)]*)\)", capsys.readouterr().out)
    assert len(shown) == len(attrs.fields(Shown))
    assert cli(Shown, [word for flag, text in shown for word in (flag, *text.split())]) == Shown()


def test_a_preset_replaces_defaults_but_not_what_is_given():
    assert cli(Recipe, ["--lr", "1"], presets=PRESETS) == Recipe(epochs=30, lr=1.0)
    assert cli(Recipe, ["--data", "x"], presets=PRESETS) == Recipe(data="x")


def test_an_unknown_flag_is_one_line_with_a_suggestion(capsys):
    assert complaint(capsys, "--epoch", "3") == (
        f"{SCRIPT}: unknown flag --epoch; did you mean --epochs? (--help lists all)"
    )


def test_a_bad_value_is_one_line_with_flag_and_value(capsys):
    assert "--epochs takes int, not 'ten'" in complaint(capsys, "--epochs", "ten")
    assert "--lr takes float, not 'nan'" in complaint(capsys, "--lr", "nan")
    assert "--betas takes float float, not '0.9 inf'" in complaint(capsys, "--betas", "0.9", "inf")
    assert "--size takes small|base, not 'huge'" in complaint(capsys, "--size", "huge")
    assert "--betas takes float float, not '0.9'" in complaint(capsys, "--betas", "0.9")
    assert "--ema takes true|false, not 'maybe'" in complaint(capsys, "--ema", "maybe")
    assert "--compile takes true|false|loss|step, not 'all'" in complaint(capsys, "--compile", "all")
    assert "--lr expects one argument" in complaint(capsys, "--lr")
    assert "unexpected argument 'x'" in complaint(capsys, "x")


def test_a_recipes_own_check_is_one_line(capsys):
    assert "epochs 0 is no number of epochs" in complaint(capsys, "--epochs", "0")


@attrs.frozen
class Long:
    """How long it trains."""

    epochs: int = 300
    warmup_epochs: float = 5.0
    temp_epochs: int = 30


def test_a_warmup_longer_than_the_training_is_told_by_the_flags(capsys):
    presets = {"epochs": {300: {}, 2: {"warmup_epochs": 3.0}}}
    told = refused(capsys, Long, "--epochs 2", presets=presets)
    assert "--warmup-epochs 3 is more than --epochs 2" in told
    assert "give --warmup-epochs too, 2 or less (such as 0.2), or train for more --epochs" in told
    assert cli(Long, ["--epochs", "2", "--warmup-epochs", "2"]) == Long(2, 2.0)


@pytest.mark.parametrize("flag", ["--epochs 0", "--epochs -3", "--temp-epochs -1", "--warmup-epochs -0.5"])
def test_less_than_no_epoch_is_told_by_the_flag(capsys, flag):
    assert f"{flag} is no number of epochs; use" in refused(capsys, Long, flag)


def test_epochs_that_may_be_none_or_are_several_are_the_recipe_s_own_affair(capsys):
    @attrs.frozen
    class Stepwise:
        epochs: int = 9
        freeze_epochs: int | None = None
        warmup_epochs: float | None = None
        drop_epochs: tuple[int, ...] = (3, 6)

    assert cli(Stepwise, ["--drop-epochs", "5"]) == Stepwise(drop_epochs=(5,))
    assert "--freeze-epochs -1 is no number of epochs" in refused(capsys, Stepwise, "--freeze-epochs -1")


def refused(capsys, recipe, line, **knobs):
    with pytest.raises(SystemExit) as stop:
        cli(recipe, line.split(), **knobs)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_the_help_has_each_fields_comment_and_default(capsys):
    with pytest.raises(SystemExit) as stop:
        cli(Recipe, ["--help"], presets=PRESETS)
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    assert "training shards: 50 % of them (default: digits)" in text
    assert "global: over all processes (default: 1024)" in text
    assert "of Adam (default: 0.9 0.999)" in text
    assert "--epochs int (default: 300; 30 with --data digits)" in text


def test_what_stands_above_a_field_or_in_a_method_is_no_help_of_it():
    @attrs.frozen
    class Scaled:
        lr: float = 0.1  # per 512 images

        @property
        def rate(self):
            lr: float = self.lr * 2  # of the batch
            return lr

        # how long
        epochs: int = 3  # in all

    assert [flag.help for flag in flags(Scaled)] == ["per 512 images", "in all"]


def test_a_default_that_others_make_is_said_to_be_theirs(capsys):
    @attrs.frozen
    class Made:
        epochs: int = 10
        warmup: float = attrs.field()

        @warmup.default
        def _tenth(self):
            return self.epochs / 10

    with pytest.raises(SystemExit):
        cli(Made, ["--help"])
    assert "--warmup float (default: by other flags)" in " ".join(capsys.readouterr().out.split())
    assert cli(Made, ["--epochs", "30"]) == Made(30, 3.0)


def test_the_help_names_a_few_of_very_many_choices_and_a_mistake_all(capsys):
    names = tuple(f"net{i}" for i in range(85))

    @attrs.frozen
    class Choosing:
        net: Literal[names] = "net0"

    with pytest.raises(SystemExit):
        cli(Choosing, ["--help"])
    assert "--net net0|net1|net2|... (85 names)" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli(Choosing, ["--net", "no"])
    assert "net84" in capsys.readouterr().err


UNSAYABLE = [
    list, tuple, dict, complex, list[int], int | str, Literal["a"] | int, tuple[int, list], tuple[tuple[int, ...], ...],
]  # fmt: skip


@pytest.mark.parametrize("kind", UNSAYABLE)
def test_a_field_that_no_flag_can_say_is_refused(kind):
    with pytest.raises(TypeError, match=r"field sizes has type .*; a flag is a str, int, float, bool, Path, Literal"):
        cli(attrs.make_class("Odd", {"sizes": attrs.field(default=None, type=kind)}), [])


def test_a_field_without_default_must_be_given(capsys):
    @attrs.frozen
    class Needy:  # no comments: its fields have no help
        data: str

    with pytest.raises(SystemExit):
        cli(Needy, [])
    assert "--data must be given" in capsys.readouterr().err
    assert cli(Needy, ["--data", "x"]) == Needy("x")
