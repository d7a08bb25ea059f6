"""Fixtures of the stores' tests."""

from __future__ import annotations

import pytest

from store.records_of_tests import make_record


@pytest.fixture
def record():
    return make_record
