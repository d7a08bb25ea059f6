"""The face: what `import enginery` hands on, and when."""

from __future__ import annotations

import pytest

import enginery


def test_every_name_is_there_and_comes_from_its_home():
    for name in enginery.__all__:
        value = getattr(enginery, name)
        module = getattr(value, "__module__", None)
        if name[0].isupper() and name != "TimeoutError" and module is not None:
            assert module.startswith("enginery."), name
    assert set(enginery.__all__) <= set(dir(enginery))


def test_unknown_names_are_said_to_be_unknown():
    with pytest.raises(AttributeError, match="no attribute 'Hub'"):
        enginery.Hub


def test_rooms_are_reached_without_importing_them():
    assert enginery.errors.RemoteError is enginery.RemoteError
    assert enginery.client.__name__ == "enginery.client"


def test_version():
    assert enginery.__version__.startswith(".".join(map(str, enginery.version_info)))
