import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", ["training", "inference", "checkpoints", "scaling"])
def test_both_sides_run_and_the_ratio_is_theirs(tmp_path: Path, benchmark: str) -> None:
    script = Path(__file__).parents[2] / "scripts" / "benchmark.py"
    count = "96" if benchmark in ("checkpoints", "scaling") else "4"
    command = [sys.executable, str(script), benchmark, "--reviews", count, "--rounds", "1"]
    output = tmp_path / "figures.json"
    subprocess.run([*command, "--output", str(output), "data=sample"], check=True)
    result = json.loads(output.read_text())
    (usual,), (pipeline,) = result["reviews_per_second"].values()
    assert usual > 0
    assert result["ratio"] == pipeline / usual
