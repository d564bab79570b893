from pathlib import Path

import pytest

from sentiment.errors import UserError
from sentiment.report.run import ENVIRONMENT, changes, write_environment


def test_changes_are_named_with_both_values(tmp_path: Path) -> None:
    write_environment(tmp_path, {"threads": 1, "device": "a"})
    assert list(changes(tmp_path, {"threads": 2, "device": "a"})) == [("threads", 1, 2)]


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_damaged_record_is_named_with_the_way_out(tmp_path: Path, content: str) -> None:
    (tmp_path / ENVIRONMENT).write_text(content)
    with pytest.raises(UserError, match=r"environment\.json is damaged; delete it"):
        list(changes(tmp_path, {"threads": 2}))
