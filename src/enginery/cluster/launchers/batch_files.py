"""Files of a batch job: its script, and what it wrote."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections import deque
from pathlib import Path

from enginery.cluster.launchers.process import last_lines


def write_script(path: Path, text: str, mode: int) -> None:
    """Write a script with ``mode``. Raises OSError, and leaves nothing then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        # A new file, so that nothing is written through somebody's link, and with its mode from the first byte on.
        with open(path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
            stream.write(text)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def output_folder(output_file: str) -> Path:
    """Where tasks of an array write whose output cannot go to one file."""
    return Path(f"{output_file}.d")


def output_files(output_file: str) -> list[Path]:
    """Files whose names begin with that of the output file, and those in its folder; written last at the end."""
    whole = Path(output_file)
    with contextlib.suppress(OSError):
        named = [path for path in whole.parent.glob(f"{_literal(whole.name)}*") if path.is_file()]
        named += [path for path in output_folder(output_file).glob("*") if path.is_file()]
        return sorted(named, key=lambda path: (path.stat().st_mtime, path.name))
    return []


def read_output(output_file: str, limit: int) -> str:
    """The last ``limit`` lines a job wrote, each file's under its name if there are several."""
    texts = [(path, text) for path in output_files(output_file) if (text := last_lines(path, limit))]
    lines: deque[str] = deque(maxlen=limit)
    for path, text in texts:
        lines.extend([f"[{path.name}]"] if len(texts) > 1 else [])
        lines.extend(text.splitlines())
    return "\n".join(lines)


def remove_output(output_file: str) -> None:
    """Remove all of it. Never raises."""
    for path in output_files(output_file):
        with contextlib.suppress(OSError):
            path.unlink()
    shutil.rmtree(output_folder(output_file), ignore_errors=True)


def _literal(name: str) -> str:
    """A file name as a pattern that matches nothing else."""
    return re.sub(r"([*?[])", r"[\1]", name)
