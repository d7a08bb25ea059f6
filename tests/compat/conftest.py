"""Fixtures of the tests of former interfaces."""

from __future__ import annotations

from clusters import cluster

__all__ = ["cluster"]
