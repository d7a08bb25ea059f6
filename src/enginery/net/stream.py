"""Messages over a Unix stream socket, for peers on one host.

Why not zmq here: on the way through a broker and back zmq wakes twelve threads, this four. That is a third of a round
trip and, for large frames, twice the speed. Encryption and the allow-list of keys are tcp's, where zmq stays; this
socket lives in a folder only its owner may enter, and the kernel tells who has connected.

On the wire, all integers little-endian::

    magic 2 bytes | number of frames 4 bytes | length of header 4 bytes | 8 bytes length for each frame | header | frames
"""

from __future__ import annotations

import errno
import mmap
import select
import socket as sockets
import struct
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from enginery.net.channel import ChannelClosed

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC: Final = 0x9E1C
_PREFIX: Final = struct.Struct("<HII")
_HEAD: Final = _PREFIX.size
#: Bytes read at once; a block grows to take a longer message.
BLOCK: Final = 1 << 16
#: A block that has grown beyond this is given back when it is not needed.
LARGEST_KEPT: Final = 1 << 20
#: Buffers handed to the kernel in one call at most (IOV_MAX is 1024).
MAX_BUFFERS: Final = 512
#: From this size on a frame gets pages of its own: the kernel gives them zeroed only when they are written.
PAGES: Final = 1 << 16
#: Bytes the kernel shall keep for us on the way, as far as the system allows.
KERNEL_BUFFER: Final = 1 << 20


Message = tuple[object, list[memoryview]]


class Bounds(NamedTuple):
    """What one message may have at most; a connection that announces more is closed before any of it is read."""

    header: int = 1 << 30  #: bytes of its header
    frames: int = 1 << 24  #: frames
    size: int = 1 << 40  #: bytes of all of them


#: For those who have not said hello yet.
STRANGER: Final = Bounds(header=1 << 20, frames=0, size=0)
#: For everybody, unless somebody says otherwise.
USUAL: Final = Bounds()


class Stream:
    """One end of a connection. See ``net.channel.Channel``."""

    def __init__(self, socket: sockets.socket) -> None:
        socket.setblocking(False)
        for option in (sockets.SO_SNDBUF, sockets.SO_RCVBUF):
            socket.setsockopt(sockets.SOL_SOCKET, option, KERNEL_BUFFER)
        self.wants_write = False
        self.bounds = USUAL
        self.unsent = 0  #: bytes that wait for the other side to take them
        self._socket = socket
        self._fd = socket.fileno()
        self._unsent: deque[memoryview] = deque()
        self._block = bytearray(BLOCK)
        self._view = memoryview(self._block)
        self._start = self._end = 0
        self._header: memoryview | bytes | None = None  #: of a message whose frames are on their way
        self._frames: list[memoryview] = []
        self._wanted: deque[memoryview] = deque()  #: what is still to be filled of those frames
        self._size = 0  #: of the message at the front of the block, where it is known and incomplete

    def __repr__(self) -> str:
        return f"<Stream fd={self._fd} unsent={self.unsent}>"

    def fileno(self) -> int:
        """See ``Channel``."""
        return self._fd

    def has_unseen(self) -> bool:
        """See ``Channel``: the kernel's descriptors tell of states, so there is nothing."""
        return False

    # --- sending ------------------------------------------------------------------------------------------------

    def send(self, header: bytes, frames: Sequence[object]) -> None:
        """See ``Channel``."""
        if not frames:
            self._send_small(_PREFIX.pack(MAGIC, 0, len(header)) + header)  # copied: less work than a second buffer
            return
        views = [memoryview(frame).cast("B") for frame in frames]  # type: ignore[arg-type]  # buffers all
        lengths = struct.pack(f"<{len(views)}Q", *[view.nbytes for view in views])
        self._push([_PREFIX.pack(MAGIC, len(views), len(header)) + lengths, header, *[v for v in views if v.nbytes]])

    def _send_small(self, message: bytes) -> None:
        # Hot: the way of almost all messages. Bench: round trip.
        if self._unsent:
            self._wait([memoryview(message)])
            return
        try:
            sent = self._socket.send(message)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise _closed(error) from error
        if sent < len(message):
            self._wait([memoryview(message)[sent:]])
            self.write()

    def _push(self, parts: Sequence[bytes | memoryview]) -> None:
        if self._unsent:
            self._wait([memoryview(part) for part in parts])
            return
        try:
            sent = self._socket.sendmsg(parts if len(parts) <= MAX_BUFFERS else parts[:MAX_BUFFERS])
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise _closed(error) from error
        rest: list[memoryview] = []
        for part in parts:
            size = len(part)
            if sent >= size:
                sent -= size
            else:
                rest.append(memoryview(part)[sent:])
                sent = 0
        if rest:
            self._wait(rest)
            self.write()

    def _wait(self, parts: list[memoryview]) -> None:
        """The other side does not take these yet."""
        self._unsent.extend(parts)
        self.unsent += sum(part.nbytes for part in parts)

    def write(self) -> None:
        """See ``Channel``."""
        unsent = self._unsent
        while unsent:
            parts = [unsent[at] for at in range(min(len(unsent), MAX_BUFFERS))]
            try:
                sent = self._socket.sendmsg(parts)
            except BlockingIOError:
                break
            except OSError as error:
                raise _closed(error) from error
            self.unsent -= sent
            while sent:
                first = unsent[0]
                if sent < first.nbytes:
                    unsent[0] = first[sent:]
                    break
                sent -= first.nbytes
                unsent.popleft()
        self.wants_write = bool(unsent)

    # --- receiving ----------------------------------------------------------------------------------------------

    def receive(self) -> list[Message]:
        """See ``Channel``. One read of the block for small messages; frames are read straight into their place."""
        # Hot: once per message. Bench: round trip.
        messages: list[Message] = []
        if self._wanted:
            if not self._fill():
                return messages
            messages.append(self._take())
        if self._end or len(self._block) > LARGEST_KEPT:
            self._make_room()
        end, view = self._end, self._view
        try:
            size = self._socket.recv_into(view[end:] if end else view)
        except BlockingIOError:
            return messages
        except OSError as error:
            if messages:
                return messages  # the next read says again that this was the end; likewise below
            raise _closed(error) from error
        if not size:
            if messages:
                return messages
            msg = "the connection was closed by the other side"
            raise ChannelClosed(msg)
        if not end and size > _HEAD and _PREFIX.unpack_from(view) == (MAGIC, 0, size - _HEAD):
            # One whole message and nothing else, which when idle is the rule.
            messages.append((view[_HEAD:size], []))
            return messages
        self._end = end + size
        self._parse(messages)
        return messages

    def _parse(self, messages: list[Message]) -> None:
        """Take complete messages out of the block. Headers stay in it until the next read."""
        view, start, end = self._view, self._start, self._end
        self._size = 0
        while end - start >= _HEAD:
            magic, count, length = _PREFIX.unpack_from(view, start)
            if magic != MAGIC:
                msg = f"what came is not a message of this protocol (it begins with {bytes(view[start : start + _HEAD])!r})"
                raise ChannelClosed(msg)
            if length > self.bounds.header or count > self.bounds.frames:
                msg = f"a message with a header of {length} bytes and {count} frames was announced, which is more than allowed"
                raise ChannelClosed(msg)
            begin = start + _HEAD + 8 * count
            stop = begin + length
            if stop > end:
                self._size = stop - start
                break
            start = stop
            if count:
                sizes = struct.unpack_from(f"<{count}Q", view, begin - 8 * count)
                start = self._begin_frames(sizes, view[begin:stop], stop)
                if self._wanted and not self._fill_after(messages):
                    break
                messages.append(self._take())
            else:
                messages.append((view[begin:stop], []))
        if start == end:
            start = end = 0
        self._start, self._end = start, end

    def _begin_frames(self, sizes: Sequence[int], header: memoryview, start: int) -> int:
        """Make place for the frames of a message, and put in what has come of them. Returns where the rest begins."""
        if sum(sizes) > self.bounds.size:
            msg = f"a message of {sum(sizes)} bytes was announced, which is more than allowed"
            raise ChannelClosed(msg)
        self._header = bytes(header)
        try:
            self._frames = [_memory(size) for size in sizes]
        except (MemoryError, OSError) as error:
            raise _too_large(sum(sizes)) from error
        for frame in self._frames:
            here = min(self._end - start, frame.nbytes)
            frame[:here] = self._view[start : start + here]
            start += here
            if here < frame.nbytes:
                self._wanted.append(frame[here:])
        return start

    def _fill_after(self, messages: list[Message]) -> bool:
        """As ``_fill``. If that fails, messages that came before are not to be lost: the next read says it again."""
        try:
            return self._fill()
        except ChannelClosed:
            if not messages:
                raise
            return False

    def _fill(self) -> bool:
        """Read frames until they are complete, or until there is nothing more to read."""
        wanted = self._wanted
        while wanted:
            try:
                size = self._socket.recvmsg_into([wanted[at] for at in range(min(len(wanted), MAX_BUFFERS))])[0]
            except BlockingIOError:
                return False
            except OSError as error:
                raise _closed(error) from error
            if not size:
                msg = "the connection was closed in the middle of a message"
                raise ChannelClosed(msg)
            while size:
                if size < wanted[0].nbytes:
                    wanted[0] = wanted[0][size:]
                    break
                size -= wanted.popleft().nbytes
        return True

    def _take(self) -> Message:
        header, frames = self._header, self._frames
        self._header, self._frames = None, []
        return header, frames

    def _make_room(self) -> None:
        """Before a read: have the beginning of an incomplete message at the front, of a block it fits into."""
        size = max(self._size, BLOCK)
        fits = size <= len(self._block) <= max(size, LARGEST_KEPT)
        if fits and not self._start and self._end < len(self._block):
            return  # it stands there already: moved once, however many reads it takes
        rest = bytes(self._view[self._start : self._end])
        if not fits:
            try:
                self._block = bytearray(size)
            except MemoryError as error:
                raise _too_large(size) from error
            self._view = memoryview(self._block)
        self._view[: len(rest)] = rest
        self._start, self._end = 0, len(rest)

    # --- the end ------------------------------------------------------------------------------------------------

    def close(self, linger: float) -> None:
        """See ``Channel``."""
        deadline = monotonic() + linger
        try:
            while self._unsent and (left := deadline - monotonic()) > 0:
                select.select([], [self._fd], [], left)
                self.write()
        except (ChannelClosed, ValueError):
            pass  # nobody is there to hear the rest
        self._socket.close()

    def abandon(self) -> None:
        """See ``Channel``. The controller shall find the connection closed when the parent is gone."""
        self._socket.close()


def _memory(size: int) -> memoryview:
    return memoryview(mmap.mmap(-1, size) if size >= PAGES else bytearray(size))


def _too_large(size: int) -> ChannelClosed:
    return ChannelClosed(f"a message of {size} bytes was announced, for which there is no memory")


def _closed(error: OSError) -> ChannelClosed:
    name = errno.errorcode.get(error.errno or 0, "unknown")
    return ChannelClosed(f"the connection broke ({name}: {error.strerror})")
