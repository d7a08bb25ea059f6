"""``import ipyparallel as ipp``, answered by enginery. What is where stands in ``_table.py``."""

from __future__ import annotations

import sys

from ipyparallel import _modules

_modules.install()
_modules.fill(sys.modules[__name__])
