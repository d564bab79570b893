import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_run_killed_five_times_ends_as_one_that_was_left_alone() -> None:
    script = Path(__file__).parents[2] / "scripts" / "torture.py"
    short = ("trainer.epochs=2", "trainer.max_train_batches=20", "checkpoint.every_updates=3")
    done = subprocess.run(
        [sys.executable, str(script), "--kills", "5", *short],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith("5 kills, ")
