"""What a run shows."""

import io

from blocks.train import progress


def test_a_log_file_says_how_much_time_is_left(monkeypatch):
    """From the second step of this start on, by its own pace."""
    monkeypatch.setattr(progress, "QUIET_S", -1.0)
    file = io.StringIO()
    with progress.Screen(steps_per_epoch=50, epochs=2, file=file) as screen:
        screen.begin(90)
        for step in range(91, 96):
            screen.step(step, {"loss": 0.5})
    lines = file.getvalue().splitlines()
    assert lines[0] == "step 91/100  loss 0.500"
    assert lines[-1].startswith("step 95/100  loss 0.500  left ")
