"""`sciinv new-operator` where the file cannot be written."""

from __future__ import annotations

import pytest

from sciinv.errors import ConfigError
from sciinv.operators.new import write


def test_a_place_that_cannot_be_written_to_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        write("Mine", tmp_path / "file" / "mine.py")
    assert "--path" in str(caught.value.remedy)
