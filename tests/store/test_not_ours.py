"""A folder that is no store of ours is told what it is, and nobody is told to remove it."""

from __future__ import annotations

import pytest

from sciinv import store
from sciinv.errors import StoreError


@pytest.mark.parametrize(
    ("file", "word"), [(".zgroup", "format 2"), ("zarr.json", "format 3"), ("notes.txt", "no seal")]
)
def test_a_foreign_folder_is_told_what_it_is(tmp_path, file, word):
    (tmp_path / file).write_text("{}")
    with pytest.raises(StoreError, match="not whole") as caught:
        store.open_measurement(tmp_path)
    assert word in str(caught.value.got)
    assert "remove" not in str(caught.value.remedy)
    assert ("sciinv convert" in str(caught.value.remedy)) == (file != "notes.txt")
