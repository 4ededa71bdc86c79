"""torch.compile of a step's loss."""

import shutil

import pytest
import torch

from blocks.train import compiled
from blocks.train.step import make_step
from tests.train.small_problem import assert_close, batch_of, same, setup

NO_COMPILER = not any(map(shutil.which, compiled.COMPILERS))


@pytest.mark.skipif(NO_COMPILER, reason="torch.compile needs a C++ compiler, and there is none")
def test_a_compiled_step_gives_the_eager_numbers_with_dropout_and_memory():
    objective, optimizer, first = setup()
    step, eager = (make_step(objective, optimizer, ema_decay=0.9, clip_norm=0.5, compile=c) for c in (True, False))
    random_state = torch.get_rng_state()
    state, plain = first, first
    for number in range(3):
        state, metrics = step(state, batch_of(seed=number))
        plain, expected = eager(plain, batch_of(seed=number))
        assert_close(metrics, expected, atol=1e-5, rtol=1e-5)
        assert_close(state, plain, atol=1e-5, rtol=1e-5)
    assert same(step(first, batch_of())[0], step(first, batch_of())[0])
    assert torch.equal(torch.get_rng_state(), random_state)


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    objective, optimizer, _ = setup()
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler and finds none \(c\+\+, g\+\+, clang\+\+\); install"):
        make_step(objective, optimizer, compile=True)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="no-such-compiler"):
        make_step(objective, optimizer, compile=True)


@pytest.mark.skipif(NO_COMPILER, reason="torch.compile needs a C++ compiler, and there is none")
def test_what_compile_means_is_said_by_name_and_an_unknown_name_is_refused():
    meanings = {name: compiled.compile_mode(name) for name in (False, True, *compiled.MODES)}
    assert meanings == {False: None, True: "loss"} | {name: name for name in compiled.MODES}
    assert [compiled.compile_mode(name, world_size=2) for name in compiled.MODES] == ["layers", "loss", "loss", "loss"]
    with pytest.raises(ValueError, match="compile 'all' is unknown; there are True, False, 'layers', 'loss'"):
        compiled.compile_mode("all")
