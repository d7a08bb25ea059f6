"""Every input that was worth keeping, tried again without a fuzzer; and a few by chance, from the run's seed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzz.targets import LONGEST, TARGETS, WORDS

CORPUS = Path(__file__).parent / "corpus"
BY_CHANCE = 100


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name):
    paths = sorted((CORPUS / name).iterdir())
    assert paths
    for path in paths:
        TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_changed_by_chance(name, seed):
    """Inputs of the corpus with some bytes changed, cut, or put together."""
    lot = random.Random(f"{seed} {name}")
    kept = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())] + WORDS
    for _ in range(BY_CHANCE):
        data = bytearray(lot.choice(kept) + lot.choice([b"", lot.choice(kept), lot.randbytes(40)]))
        for _ in range(lot.randrange(6)):
            if data:
                data[lot.randrange(len(data))] = lot.randrange(256)
        TARGETS[name](bytes(data[: LONGEST.get(name, 600)]))
