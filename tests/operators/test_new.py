"""`sciinv new-operator` where the file cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sciinv.cli import app
from sciinv.errors import ConfigError
from sciinv.operators.new import write


def test_a_place_that_cannot_be_written_to_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        write("Mine", tmp_path / "file" / "mine.py")
    assert "--path" in str(caught.value.remedy)


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")]
)
def test_a_folder_without_permission_is_told_on_the_command_line(tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    done = CliRunner().invoke(app, ["new-operator", "Mine", "--path", str(tmp_path / "mine.py")])
    assert isinstance(done.exception, ConfigError)
    told = str(done.exception)
    assert "mine.py" in told
    assert error.strerror in told
    assert "--path" in str(done.exception.remedy)
