"""Configuration files of a profile, for those who are not an application."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from traitlets.config.loader import Config, ConfigFileNotFound, JSONFileConfigLoader, PyFileConfigLoader

from enginery.config.former import modern_settings

if TYPE_CHECKING:
    from pathlib import Path


log = logging.getLogger(__name__)


def load_profile_config(folder: Path, name: str) -> Config:
    """What ``<name>.py`` and ``<name>.json`` in ``folder`` say; the latter wins. Empty if there is neither.

    Raises ValueError that names the file if one of them fails.
    """
    config = Config()
    for loader_class, ending in ((PyFileConfigLoader, "py"), (JSONFileConfigLoader, "json")):
        path = folder / f"{name}.{ending}"
        if not path.is_file():
            continue
        try:
            config.merge(loader_class(path.name, str(folder)).load_config())
        except ConfigFileNotFound:
            # It went away since we looked.
            continue
        except Exception as error:  # configuration files are programs: anything may go wrong in them
            msg = f"configuration file {str(path)!r} failed: {type(error).__name__}: {error}"
            raise ValueError(msg) from error
    moved, notes = modern_settings(config)
    if notes:
        log.warning("settings of an earlier version in %s: %s.", folder / name, "; ".join(notes))
    config.merge(moved)
    return config
