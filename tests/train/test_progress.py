"""What a run shows."""

import io

import pytest

from blocks.train import progress


def test_a_log_file_says_how_much_time_is_left(monkeypatch):
    """From the second step of this start on, by its own pace."""
    monkeypatch.setattr(progress, "QUIET_S", -1.0)
    file = io.StringIO()
    with progress.Screen(steps_per_epoch=50, epochs=2, file=file) as screen:
        screen.begin(90)
        for step in range(91, 96):
            screen.step(step, {"loss": 0.5})
    lines = file.getvalue().strip().splitlines()  # rich 13.7 ends it with an empty line
    assert lines[0] == "step 91/100  loss 0.500"
    assert lines[-1].startswith("step 95/100  loss 0.500  left ")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(9.96, "10.0 s"), (59.97, "1 min 0 s"), (119.6, "2 min 0 s"), (3599.7, "1 h 0 min"), (7385.0, "2 h 3 min")],
)
def test_no_minute_has_60_seconds(seconds, said):
    assert progress.duration(seconds) == said
