from __future__ import annotations

import pytest

from oel_server.forgetting.kept import kept
from oel_shared.errors import StateError


def test_the_same_question_is_asked_once_and_another_anew(tmp_path):
    asked = []

    def find(answer):
        asked.append(answer)
        return [answer]

    assert kept(tmp_path / "x", "plays", {"base": "a"}, lambda: find(1)) == [1]
    assert kept(tmp_path / "x", "plays", {"base": "a"}, lambda: find(2)) == [1]
    assert kept(tmp_path / "x", "plays", {"base": "b"}, lambda: find(3)) == [3]
    assert kept(tmp_path / "x", "talk", {"base": "a"}, lambda: find(4)) == [4]
    assert asked == [1, 3, 4]


def test_nothing_is_kept_of_a_question_that_failed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path, "talk", {}, interrupted)
    assert kept(tmp_path, "talk", {}, lambda: "now") == "now"


def interrupted():
    raise KeyboardInterrupt


def test_a_damaged_file_is_a_clear_error(tmp_path):
    kept(tmp_path, "talk", {}, lambda: "now")
    (file,) = tmp_path.iterdir()
    file.write_text("[")
    with pytest.raises(StateError, match=r"damaged: delete it"):
        kept(tmp_path, "talk", {}, lambda: "now")
