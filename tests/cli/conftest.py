from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sentiment.report import figures
from sentiment.training import probe


@pytest.fixture(scope="module", autouse=True)
def _short_looks() -> Iterator[None]:
    """Spare each of a hundred small runs the seconds that its pictures would take.

    Pictures have tests of their own, and the slow tests run whole commands with them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "pixels", lambda figure: np.zeros((1, 1, 3), np.uint8))
        patch.setattr(probe, "MOST_TOKENS", 20)
        yield


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
