import sys

import pytest

from scripts import load_test


@pytest.mark.parametrize("option", ["--clients=0", "--seconds=0"])
def test_to_send_nothing_is_no_test(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["load_test.py", "outputs/none", option])
    with pytest.raises(SystemExit) as ended:
        load_test.main()
    assert ended.value.code == 2
    assert "expected more than 0" in capsys.readouterr().err
