"""The version of the distribution: the one place where it is written. No I/O."""

from __future__ import annotations

__version__ = "0.1.0"
