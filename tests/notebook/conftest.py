"""Notebooks and terminals with a cluster of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Tests are not a package; this is how they share a helper.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="module")
def jupyter_folders(tmp_path_factory: pytest.TempPathFactory):
    """Kernels keep their connection files in a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path_factory.mktemp("jupyter")))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        patch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib"))))
        yield
