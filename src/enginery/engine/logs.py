"""Where the processes of an engine host log, as the options say."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from enginery.net.publish import publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enginery.engine.options import EngineOptions


@contextlib.contextmanager
def logging_as_told(options: EngineOptions, logger: logging.Logger | None = None) -> Iterator[None]:
    """Log where the options say. Not by the root logger: that one belongs to the user's code in the engines."""
    logger = logger or logging.getLogger("enginery.engine")
    handler: logging.Handler = logging.FileHandler(options.log) if options.log else logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s engine %(process)d %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(options.log_level)
    publisher = publish(logger, options.log_url, "engine")
    try:
        yield
    finally:
        for each in (handler, publisher):
            if each is not None:
                logger.removeHandler(each)
                each.close()
