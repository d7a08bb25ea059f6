"""A file by which whoever started a controller on another host shows that he is there: touched again and again.

No connection is needed for that, and no clock that both hosts agree on: what counts is that the file changes.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from enginery.net.wakeup import Wakeup

if TYPE_CHECKING:
    from pathlib import Path

#: How long an owner may be silent until he counts as gone, in seconds.
LEASE: Final = 60.0
#: How often the file is touched, in seconds.
PERIOD: Final = 10.0
#: How often it is looked at in one lease.
LOOKS: Final = 6


def beat(path: Path) -> None:
    """Show that the owner is there. A file that cannot be touched now may be so the next time."""
    try:
        with path.open("a"):
            os.utime(path)
    except OSError:
        pass


class BeatWatch:
    """Looks at a file from time to time, by a thread: file systems of other hosts tell nothing, and may hang.

    Its descriptor becomes readable, once, when the file has not changed for ``lease`` seconds. Time in which this process was
    stopped does not count.
    """

    def __init__(self, path: Path, lease: float = LEASE) -> None:
        self.path = path
        self.lease = lease
        self._silent = Wakeup()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="enginery-owner", daemon=True)

    def start(self) -> None:
        """Begin; the lease counts from now."""
        self._thread.start()

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._silent.fileno()

    def close(self) -> None:
        """Look no more. The file of an owner who has gone is of no use any more, and its end says that he has."""
        self._over.set()
        if self._silent.is_set:
            self.path.unlink(missing_ok=True)

    def _run(self) -> None:
        before, same = self._stamp(), 0
        while same < LOOKS:
            if self._over.wait(self.lease / LOOKS):
                return
            now = self._stamp()
            before, same = now, same + 1 if now == before else 0
        self._silent.set()

    def _stamp(self) -> int:
        """When the file was touched last; 0 if that cannot be known."""
        try:
            # Opened, since NFS asks the server only then; what is merely looked up may be a minute old.
            with self.path.open("rb") as stream:
                return os.fstat(stream.fileno()).st_mtime_ns
        except OSError:
            return 0
