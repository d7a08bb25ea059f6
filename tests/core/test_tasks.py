"""What is remembered of a task's attempts is bounded."""

from __future__ import annotations

from enginery.core.tasks import MOST_ATTEMPTS, Rare


def test_the_latest_attempts_are_kept():
    rare = Rare()
    for at in range(MOST_ATTEMPTS + 5):
        rare.note_attempt(f"attempt {at}")
    assert len(rare.attempts) == MOST_ATTEMPTS
    assert rare.attempts[-1] == f"attempt {MOST_ATTEMPTS + 4}"
