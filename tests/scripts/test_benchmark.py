import json
import subprocess
import sys
from pathlib import Path


def test_both_sides_train_and_the_ratio_is_theirs(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "benchmark.py"
    command = [sys.executable, str(script), "training", "--reviews", "4", "--rounds", "1"]
    output = tmp_path / "training.json"
    subprocess.run([*command, "--output", str(output), "data=sample"], check=True)
    result = json.loads(output.read_text())
    (tutorial,), (pipeline,) = result["reviews_per_second"].values()
    assert tutorial > 0
    assert result["ratio"] == pipeline / tutorial
