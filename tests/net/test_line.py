"""A line between threads: whoever waits drives it, nothing is lost, and Ctrl-C finds nothing half done."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import deque

import pytest

from enginery.net import line as line_module
from enginery.net.line import Line
from enginery.net.stream import Stream

#: Longest wait for anything, in seconds; reached only when something is broken.
PATIENCE = 20.0


class Echo:
    """A mind that sends what is put into ``outgoing`` and keeps what comes in."""

    def __init__(self) -> None:
        self.outgoing = deque()
        self.got = []
        self.drivers = set()
        self.lost_because = None
        self.ticks = 0
        self.due = float("inf")
        self.turns = 0
        self.was_forked = False
        self.on_heard = lambda: None
        self.on_turn = lambda: None

    def next_message(self):
        return (self.outgoing[0], []) if self.outgoing else None

    def sent(self):
        self.outgoing.popleft()

    def heard(self, header, frames):
        self.drivers.add(threading.current_thread().name)
        self.got.append(bytes(header))
        self.on_heard()

    def lost(self, why):
        self.lost_because = why

    def forked(self):
        self.was_forked = True

    def tick(self, now):
        self.ticks += 1
        self.due = float("inf")

    def next_deadline(self):
        return self.due

    def after_turn(self):
        self.turns += 1
        self.on_turn()


class Peer:
    """The other side: a thread that answers each message with itself, until it is told to stop."""

    def __init__(self, end) -> None:
        self.stream = Stream(end)
        self.end = end
        self.heard = []
        self.hold = threading.Event()
        self.hold.set()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        import select

        try:
            while True:
                select.select([self.stream], [self.stream] if self.stream.wants_write else [], [])
                if self.stream.wants_write:
                    self.stream.write()
                messages = [(bytes(header), frames) for header, frames in self.stream.receive()]
                self.hold.wait()
                for header, frames in messages:
                    self.heard.append(header)
                    self.stream.send(header, frames)
        except OSError:
            return

    def stop(self):
        self.hold.set()
        try:
            self.end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join(PATIENCE)
        self.end.close()


@pytest.fixture
def mind():
    return Echo()


@pytest.fixture
def peer_end():
    one, other = socket.socketpair()
    return one, Peer(other)


@pytest.fixture
def peer(peer_end):
    yield peer_end[1]
    peer_end[1].stop()


@pytest.fixture
def line(mind, peer, peer_end):
    line = Line(Stream(peer_end[0]), mind, name="own-thread")
    line.start()
    yield line
    line.close()


def say(line, mind, *messages):
    mind.outgoing.extend(messages)
    line.wake()


def test_a_thread_that_waits_reads_for_itself(line, mind):
    for n in range(100):
        mind.outgoing.append(b"%d" % n)
        assert line.wait_for(lambda n=n: len(mind.got) > n, PATIENCE)
    assert mind.got == [b"%d" % n for n in range(100)]
    assert threading.current_thread().name in mind.drivers


def test_nobody_waits_and_the_own_thread_does_it(line, mind):
    arrived = threading.Event()
    mind.on_heard = arrived.set
    say(line, mind, b"x")
    assert arrived.wait(PATIENCE)
    assert mind.drivers == {"own-thread"}


def test_flush_sends_from_the_thread_that_asks(line, mind, peer):
    mind.outgoing.append(b"x")
    line.flush()
    assert not mind.outgoing
    assert line.wait_for(lambda: mind.got, PATIENCE)


def test_a_wait_may_be_over_before_it_begins(line):
    assert line.wait_for(lambda: True, 0)


def test_a_wait_that_takes_too_long(line):
    began = time.monotonic()
    assert not line.wait_for(lambda: False, 0.02)
    assert time.monotonic() - began < PATIENCE / 2


def test_what_a_predicate_raises_comes_through_and_the_line_goes_on(line, mind):
    def wrong():
        if mind.got:
            raise KeyError("wrong")
        return False

    say(line, mind, b"x")
    with pytest.raises(KeyError):
        line.wait_for(wrong, PATIENCE)
    say(line, mind, b"y")
    assert line.wait_for(lambda: len(mind.got) == 2, PATIENCE)


def test_many_threads_wait_at_once_each_for_something_else(line, mind):
    count = 12
    ended = []

    def wait(n):
        say(line, mind, b"%d" % n)
        ended.append(line.wait_for(lambda: b"%d" % n in mind.got, PATIENCE))

    for _ in range(20):
        mind.got.clear()
        threads = [threading.Thread(target=wait, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert ended == [True] * count * 20


def test_waiting_threads_hand_over_when_the_driver_has_what_it_wants(line, mind, peer):
    peer.hold.clear()
    first, second = threading.Event(), threading.Event()

    def wait(n, ended):
        assert line.wait_for(lambda: len(mind.got) >= n, PATIENCE)
        ended.set()

    threads = [threading.Thread(target=wait, args=args) for args in ((1, first), (2, second))]
    for thread in threads:
        thread.start()
    say(line, mind, b"a")
    peer.hold.set()
    assert first.wait(PATIENCE)
    assert not second.is_set()
    say(line, mind, b"b")
    assert second.wait(PATIENCE)
    for thread in threads:
        thread.join()


def test_what_another_thread_submits_leaves_while_one_drives(line, mind, peer):
    driving = threading.Thread(target=line.wait_for, args=(lambda: b"late" in mind.got, PATIENCE))
    driving.start()
    say(line, mind, b"early")
    while b"early" not in peer.heard:
        time.sleep(0.001)
    say(line, mind, b"late")
    driving.join(PATIENCE)
    assert not driving.is_alive()


def test_announcing_makes_everybody_look_again(line):
    answer = []
    threads = [threading.Thread(target=line.wait_for, args=(lambda: answer, PATIENCE)) for _ in range(3)]
    for thread in threads:
        thread.start()
    answer.append(1)
    line.announce()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_no_wake_up_is_lost_under_load(line, mind):
    """Each message waits for the answer to the one before: one lost wake-up shows as a pause."""
    arrived = threading.Event()
    mind.on_heard = arrived.set
    for n in range(2000):
        arrived.clear()
        say(line, mind, b"%d" % n)
        assert arrived.wait(PATIENCE)


def test_ticks_come_when_they_are_due(line, mind):
    ticked = threading.Event()
    mind.on_turn = lambda: mind.ticks and ticked.set()
    mind.due = time.monotonic() + 0.01
    line.wake()
    assert ticked.wait(PATIENCE)
    assert mind.ticks == 1


def test_ticks_come_while_a_thread_drives(line, mind):
    mind.due = time.monotonic() + 0.01
    line.wake()
    assert line.wait_for(lambda: mind.ticks, PATIENCE)


def test_large_messages_leave_bit_by_bit_while_a_thread_drives(line, mind):
    large = bytes(6 << 20)
    mind.outgoing.append(large)
    assert line.wait_for(lambda: mind.got, PATIENCE)
    assert mind.got == [large]


class Forgetful:
    """A channel that answers each message with itself, whose descriptor does not tell of it: as libzmq's, after a send."""

    wants_write = False

    def __init__(self) -> None:
        self.silent, self.other = socket.socketpair()
        self.unseen = []

    def fileno(self):
        return self.silent.fileno()

    def send(self, header, frames):
        self.unseen.append((header, frames))

    def has_unseen(self):
        return bool(self.unseen)

    def receive(self):
        unseen, self.unseen = self.unseen, []
        return unseen

    def close(self, linger):
        self.silent.close()
        self.other.close()


class TestWhatADescriptorDoesNotTell:
    @pytest.fixture
    def quiet(self, mind):
        line = Line(Forgetful(), mind, name="own-thread")
        yield line
        line.close()

    def test_it_came_before_a_thread_drives(self, quiet, mind):
        mind.outgoing.append(b"x")
        quiet.flush()
        thread = threading.Thread(target=quiet.wait_for, args=(lambda: mind.got,), daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()

    def test_it_came_while_a_thread_drove_that_has_what_it_wants(self, quiet, mind):
        heard = threading.Event()
        mind.on_heard = lambda: mind.outgoing.append(b"again") if mind.got == [b"x"] else heard.set()
        mind.outgoing.append(b"x")
        assert quiet.wait_for(lambda: mind.got, PATIENCE)
        quiet.start()
        assert heard.wait(PATIENCE)


class TestTheEnd:
    def test_closing_sends_what_is_unsent(self, line, mind, peer):
        mind.outgoing.append(b"last words")
        line.close()
        peer.thread.join(PATIENCE)
        assert peer.heard == [b"last words"]
        line.close()

    def test_closing_ends_every_wait(self, line):
        outcomes = []
        threads = [
            threading.Thread(target=lambda: outcomes.append(line.wait_for(lambda: False, PATIENCE))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        while not line._driver.locked():
            time.sleep(0.001)
        line.close()
        for thread in threads:
            thread.join(PATIENCE)
        assert outcomes == [False] * 3

    def test_the_other_side_hangs_up(self, line, mind, peer):
        outcomes = []
        threads = [
            threading.Thread(target=lambda: outcomes.append(line.wait_for(lambda: mind.lost_because, PATIENCE)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        peer.stop()
        for thread in threads:
            thread.join(PATIENCE)
        assert outcomes == [True] * 3
        assert "closed by the other side" in mind.lost_because
        assert line.is_lost
        assert not line.wait_for(lambda: False, PATIENCE)

    @pytest.mark.parametrize("size", [1, 10_000_000])
    def test_last_words_are_heard_though_nothing_can_be_sent_any_more(self, mind, size):
        """It is not started: here sending is first to notice."""
        one, other = socket.socketpair()
        line = Line(Stream(one), mind, name="never-started")
        if size > 1:
            mind.outgoing.append(bytes(size))
            line.flush()  # part of it leaves
        Stream(other).send(b"you have to go", [])
        other.close()
        mind.outgoing.append(b"x")
        line._own_turn() if size > 1 else line.flush()
        assert mind.got == [b"you have to go"]
        assert line.is_lost
        assert mind.lost_because
        line.close()

    def test_the_words_are_there_before_the_line_counts_as_lost(self, line, mind, peer):
        seen = []
        mind.lost = lambda why: seen.append(line.is_lost)
        peer.stop()
        assert not line.wait_for(lambda: False, PATIENCE)
        assert seen == [False]

    def test_a_mind_drops_it_in_the_middle_of_what_came(self, line, mind, peer):
        mind.on_heard = lambda: line.drop("it says so")
        mind.outgoing.extend([b"one", b"two", b"three"])
        with line.lock:  # so that all of it comes in one turn
            line.flush()
            deadline = time.monotonic() + PATIENCE
            while len(peer.heard) < 3:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        assert line.wait_for(lambda: line.is_lost, PATIENCE)
        assert mind.got == [b"one"]
        assert mind.lost_because == "it says so"
        assert line._thread.is_alive()

    def test_a_fault_in_a_turn_is_not_a_silence(self, line, mind, monkeypatch):
        said = []
        monkeypatch.setattr(threading, "excepthook", said.append)
        mind.on_heard = lambda: 1 / 0
        lost = threading.Event()
        mind.on_turn = lost.set
        say(line, mind, b"x")
        assert lost.wait(PATIENCE)
        assert "ZeroDivisionError" in mind.lost_because
        line.close()
        assert said

    def test_descriptors_go_with_it(self, mind):
        import gc

        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            one, other = socket.socketpair()
            line = Line(Stream(one), mind, name="x")
            line.start()
            line.close()
            other.close()
            del line
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before


def test_who_waits_goes_on_though_there_is_another_connection_before_it_looks(mind, peer, peer_end, monkeypatch):
    """A loss ends the drive, and the own thread may have dialled again before the driver has asked whether it does."""
    end, other_end = socket.socketpair()
    other, again = Peer(other_end), threading.Event()
    mind.lost = lambda _why: True
    mind.redial = lambda: Stream(end)
    line = Line(Stream(peer_end[0]), mind, name="own-thread")
    drive, announce = line._drive, line.announce

    def drive_slowly(predicate, deadline):
        came = drive(predicate, deadline)
        if not came:
            assert again.wait(PATIENCE)
        return came

    def dialled(**given):
        announce(**given)
        if line._connections == 2:
            again.set()

    monkeypatch.setattr(line, "_drive", drive_slowly)
    monkeypatch.setattr(line, "announce", dialled)
    line.start()
    try:
        waiter = []
        thread = threading.Thread(target=lambda: waiter.append(line.wait_for(lambda: mind.got, PATIENCE)))
        thread.start()
        while not line._driver.locked():
            time.sleep(0.001)
        peer.stop()
        assert again.wait(PATIENCE)
        say(line, mind, b"hello again")
        thread.join(PATIENCE)
        assert waiter == [True]
    finally:
        line.close()
        other.stop()


class TestCtrlC:
    def test_it_comes_through_and_the_line_is_as_good_as_before(self, line, mind):
        def interrupt():
            while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)

        for n in range(20):
            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                line.wait_for(lambda: False, PATIENCE)
            thread.join()
            say(line, mind, b"%d" % n)
            assert line.wait_for(lambda n=n: len(mind.got) > n, PATIENCE)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_it_is_not_swallowed_when_the_answer_comes_at_the_same_time(self, line, mind):
        mind.on_heard = lambda: os.kill(os.getpid(), signal.SIGINT)
        mind.outgoing.append(b"x")
        with pytest.raises(KeyboardInterrupt):
            line.wait_for(lambda: mind.got, PATIENCE)
            # The own thread may have heard it.
            time.sleep(1)
        assert mind.got == [b"x"]

    def test_it_waits_until_a_message_has_left(self, line, mind, monkeypatch):
        events = []
        send = line._channel.send

        def interrupted(header, frames):
            os.kill(os.getpid(), signal.SIGINT)
            send(header, frames)
            events.append("sent")

        monkeypatch.setattr(line._channel, "send", interrupted)
        mind.outgoing.append(b"x")
        with pytest.raises(KeyboardInterrupt):
            line.flush()
        assert events == ["sent"]
        assert not mind.outgoing

    def test_a_handler_that_raises_nothing_does_not_end_the_wait(self, line, mind):
        called = []
        before = signal.signal(signal.SIGINT, lambda *args: called.append(args))
        try:
            mind.on_heard = lambda: os.kill(os.getpid(), signal.SIGINT)
            mind.outgoing.append(b"x")
            assert line.wait_for(lambda: called, PATIENCE)
            assert not line.wait_for(lambda: False, 0.01)
        finally:
            signal.signal(signal.SIGINT, before)
        assert called


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestForks:
    def test_a_child_gets_a_closed_line_and_the_parent_keeps_its_own(self, line, mind):
        mind.outgoing.append(b"before")
        assert line.wait_for(lambda: mind.got, PATIENCE)
        mind.outgoing.append(b"after")
        with line.lock:  # another thread may hold it in the moment of the fork
            pid = os.fork()
            if pid == 0:
                line.flush()
                line.wake()
                waited = line.wait_for(lambda: False, PATIENCE)
                line.close()
                os._exit(int(not (mind.was_forked and line.closed and not waited)))
        assert os.waitpid(pid, 0)[1] == 0
        assert line.wait_for(lambda: len(mind.got) == 2, PATIENCE)
        assert mind.got == [b"before", b"after"]
        assert not mind.was_forked

    def test_the_other_side_notices_the_end_of_the_parent_though_a_child_lives_on(self, mind, peer, peer_end):
        line = Line(Stream(peer_end[0]), mind, name="own-thread")
        line.start()
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(told)
            os.read(ready, 1)
            os._exit(0)
        line.close()
        peer.thread.join(PATIENCE)
        assert not peer.thread.is_alive()
        os.close(told)
        os.close(ready)
        assert os.waitpid(pid, 0)[1] == 0


def test_without_epoll_the_own_thread_alone_reads(monkeypatch, mind, peer, peer_end):
    monkeypatch.setattr(line_module, "_CAN_DRIVE", False)
    line = Line(Stream(peer_end[0]), mind, name="own-thread")
    line.start()
    for n in range(10):
        say(line, mind, b"%d" % n)
        assert line.wait_for(lambda n=n: len(mind.got) > n, PATIENCE)
    assert mind.drivers == {"own-thread"}
    line.close()
