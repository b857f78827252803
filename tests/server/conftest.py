"""Fixtures of the server's tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def unlearnable(monkeypatch):
    """No stage that trains may be reached."""

    def reached(*_):
        raise AssertionError("the round trained although it had to end before")

    monkeypatch.setattr("oel_server.learning.distil", reached)
