"""Frames in, actions out, on ports that are lists: who may say what, and what becomes of those who leave."""

from __future__ import annotations

import logging
import random
import typing

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enginery.controller.departures import REPORT_PATIENCE
from enginery.controller.limits import Limits
from enginery.controller.ports import Peer
from enginery.controller.server import Server
from enginery.core.invariants import check
from enginery.core.scheduler import Scheduler
from enginery.wire import messages as m
from enginery.wire.serialize import NONE

PERIOD = 3.0
SILENCE = 30.0


class FakePort:
    """Keeps what is sent, by peer."""

    def __init__(self, name, decode) -> None:
        self.name = name
        self.decode = decode
        self.sent = []
        self.forgotten = []
        self.deaf = set()
        self.limits = Limits()
        self.late = []

    def send(self, peer, header, frames):
        if peer in self.deaf:
            return False
        self.sent.append((peer, self.decode(header), [bytes(frame) for frame in frames]))
        return True

    def introduced(self, peer):
        pass

    def overdue(self, now):
        return self.late

    def forget(self, peer):
        self.forgotten.append(peer)
        return 100 + len(self.forgotten)


class World:
    """A server between two fake ports, and a clock."""

    def __init__(self, seed=0) -> None:
        self.now = 1000.0
        self.clients = FakePort("clients", m.decode_to_client)
        self.engines = FakePort("engines", m.decode_to_engine)
        self.server = Server(
            Scheduler(random=random.Random(seed)),
            clients=self.clients,
            engines=self.engines,
            welcome=m.Welcome(-1, "", 7, PERIOD, 1 << 20),
            silence=SILENCE,
            clock=lambda: self.now,
        )
        self.closed = []
        self.server.on_forget = lambda fd, peer: self.closed.append(peer)

    def hear(self, peer, message, frames=()):
        header = message if isinstance(message, bytes) else m.encode(message)
        self.server.hear(peer.port, peer, header, list(frames), self.now)
        self.server.act(self.now)

    def told(self, peer, kind=object):
        """What a peer was sent, of a kind."""
        port = peer.port
        return [message for to, message, _ in port.sent if to is peer and isinstance(message, kind)]

    def stranger(self, port):
        return Peer(port)

    def client(self):
        peer = Peer(self.clients)
        self.hear(peer, m.ClientHello(m.VERSION, "s", 11, "there", "me"))
        return peer

    def engine(self, uuid="e", **kwargs):
        peer = Peer(self.engines)
        self.hear(peer, m.EngineHello(m.VERSION, uuid, 22, "there", **kwargs))
        return peer

    def nanny(self, *uuids):
        peer = Peer(self.engines)
        self.hear(peer, m.NannyHello(m.VERSION, 33, "there", list(uuids)))
        return peer

    def wait(self, seconds):
        self.now += seconds
        self.server.look_around(self.now)
        self.server.act(self.now)


@pytest.fixture
def world():
    return World()


def task(client, number=0, **kwargs):
    return m.Task((client.number << m.CLIENT_SHIFT) + number, m.Action.PULL, b"", NONE, **kwargs)


class TestArrivals:
    def test_a_client_is_welcomed_and_told_of_engines(self, world):
        world.engine("one")
        client = world.client()
        (welcome,) = world.told(client)
        assert (welcome.number, welcome.epoch, welcome.period, welcome.window) == (client.number, 7, PERIOD, 1 << 20)
        assert [(info.id, info.uuid, info.pid, info.host) for info in welcome.engines] == [(0, "one", 22, "there")]
        world.engine("two")
        (news,) = world.told(client, m.News)
        assert [info.uuid for info in news.joined] == ["two"]

    def test_engines_get_ids_in_order_or_as_they_wish(self, world):
        peers = [world.engine(), world.engine(id=5), world.engine()]
        assert [peer.number for peer in peers] == [0, 5, 6]
        assert [world.told(peer, m.Welcome)[0].token for peer in peers] == ["e"] * 3

    def test_a_nanny_may_come_before_or_after_its_engines(self, world):
        early = world.engine("early")
        nanny = world.nanny("early", "late")
        late = world.engine("late")
        client = world.client()
        world.hear(client, m.Signal(1, [early.number, late.number], "SIGINT"))
        assert [each.uuid for each in world.told(nanny, m.Deliver)] == ["early", "late"]
        world.hear(nanny, m.NannyHello(m.VERSION, 33, "there", ["early", "late", "new"]))
        assert len(world.told(nanny, m.Welcome)) == 1

    def test_an_engine_that_has_ended_before_its_hello_came(self, world):
        nanny = world.nanny("quick")
        world.hear(nanny, m.EngineExited("quick", 22, 1))
        engine = world.engine("quick")
        assert "has ended" in world.told(engine, m.Refused)[0].reason
        assert not world.server.scheduler.engines


class TestRefusals:
    @pytest.mark.parametrize(
        "hello", [m.ClientHello(99, "", 1, "", ""), m.EngineHello(99, "", 1, ""), m.NannyHello(99, 1, "", [])]
    )
    def test_another_version(self, world, hello):
        peer = world.stranger(world.clients if isinstance(hello, m.ClientHello) else world.engines)
        world.hear(peer, hello)
        (refused,) = world.told(peer)
        assert refused.kind == "VersionMismatch"
        assert "version 99" in refused.reason
        assert world.closed == [peer]

    @pytest.mark.parametrize("data", [b"", b"\xc1", b"text", msgspec.msgpack.encode({"type": "what"}), b"\x91" * 9999])
    def test_garbage_of_a_stranger(self, world, data):
        peer = world.stranger(world.clients)
        world.hear(peer, data)
        assert world.told(peer, m.Refused)[0].kind == "Refused"
        assert world.closed == [peer]
        assert world.server.rejected == 1

    def test_garbage_of_somebody_known_is_dropped(self, world):
        client = world.client()
        world.hear(client, b"text")
        world.hear(client, m.encode(m.Done([])))
        assert world.told(client, m.Refused) == []
        assert world.server.rejected == 2
        world.hear(client, m.Ping(5))
        assert world.told(client, m.Pong) == [m.Pong(5)]

    def test_complaints_are_few(self, world, caplog):
        client = world.client()
        with caplog.at_level(logging.WARNING, "enginery.controller"):
            for _ in range(50):
                world.hear(client, b"text")
        assert world.server.rejected == 50
        assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 5

    def test_strangers_have_to_say_hello(self, world):
        peer = world.stranger(world.engines)
        world.hear(peer, m.Done([]))
        assert world.told(peer, m.Refused)[0].kind == "ConnectionLost"

    def test_who_was_refused_is_not_heard_any_more(self, world):
        peer = world.stranger(world.clients)
        world.hear(peer, b"garbage")
        world.hear(peer, m.ClientHello(m.VERSION, "s", 1, "h", "u"))
        assert not world.server.scheduler.clients
        assert len(world.told(peer)) == 1

    def test_words_of_another_role(self, world):
        engine, nanny = world.engine(), world.nanny()
        world.hear(engine, m.NannyHello(m.VERSION, 1, "", []))
        world.hear(nanny, m.Said([]))
        world.hear(nanny, m.EngineHello(m.VERSION, "", 1, ""))
        assert world.server.rejected == 3
        assert (engine.role, nanny.role) == ("engine", "nanny")

    @pytest.mark.parametrize(("announced", "sent"), [(1, 0), (0, 1), (2, 1), (1, 2)])
    def test_frames_that_do_not_fit(self, world, announced, sent):
        world.engine()
        client = world.client()
        world.hear(client, m.Submit([task(client, frames=announced)]), [b"x"] * sent)
        world.hear(client, m.Direct([m.Request([0], task(client, 1, frames=announced))]), [b"x"] * sent)
        assert world.server.rejected == 2
        assert not world.server.scheduler.book.tasks


class TestWork:
    def test_a_task_goes_to_an_engine_and_its_result_back(self, world):
        engine, client = world.engine(), world.client()
        mine = task(client, frames=1)
        world.hear(client, m.Submit([mine]), [b"frame"])
        ((_, assign, frames),) = [sent for sent in world.engines.sent if isinstance(sent[1], m.Assign)]
        assert [each.id for each in assign.tasks] == [mine.id]
        assert frames == [b"frame"]
        world.hear(engine, m.Said([m.Output(mine.id, "stdout", "hello")]))
        world.hear(engine, m.Done([m.Result(mine.id, 0, b"value", 1, 1.0, 2.0)]), [b"back"])
        sent = [(message, frames) for to, message, frames in world.clients.sent if to is client][1:]
        assert [type(message) for message, _ in sent] == [m.Outputs, m.Results]
        assert sent[1][0].engine == 0
        assert sent[1][0].results[0].payload == b"value"
        assert sent[1][1] == [b"back"]
        assert not world.server.scheduler.book.tasks

    def test_questions_are_answered(self, world):
        client = world.client()
        world.hear(client, b"garbage")
        world.hear(client, m.Query(4, "statistics"))
        world.hear(client, m.Query(5, "nonsense"))
        world.hear(client, m.Query(6, "why", {"tasks": "x"}))
        good, unknown, wrong = world.told(client, m.Answer)
        assert (good.number, good.value["clients"], good.value["rejected"]) == (4, 1, 1)
        assert "nonsense" in unknown.error
        assert wrong.error

    def test_signals_that_cannot_be_delivered_are_said(self, world):
        engine, client = world.engine(), world.client()
        world.hear(client, m.Signal(1, [engine.number], 2))
        world.hear(client, m.Signal(2, [99], 2))
        lonely, unknown = world.told(client, m.Answer)
        assert "no nanny" in lonely.error
        assert "pid 22" in lonely.error
        assert "99 is not registered" in unknown.error

    def test_shutdown(self, world):
        engine, client = world.engine("e"), world.client()
        nanny = world.nanny("e")
        world.hear(client, m.Shutdown(1, [engine.number, 99], restart=True))
        assert world.told(nanny, m.Restart) == [m.Restart("e")]
        world.hear(client, m.Shutdown(2, [engine.number], controller=True))
        assert world.told(engine, m.Shutdown)
        assert [answer.number for answer in world.told(client, m.Answer)] == [1, 2]
        assert world.server.stopping

    def test_goodbyes_go_to_everybody(self, world):
        peers = [world.engine(), world.nanny(), world.client()]
        world.server.say_goodbye("the end")
        assert [world.told(peer, m.Bye) for peer in peers] == [[m.Bye("the end")]] * 3


class TestDepartures:
    def test_goodbyes(self, world):
        engine, nanny, client, witness = world.engine(), world.nanny(), world.client(), world.client()
        for peer in (engine, nanny, client):
            world.hear(peer, m.Bye("enough"))
        assert world.told(witness, m.News)[-1].left[0].reason == "enough"
        assert world.closed == [engine, nanny, client]
        assert list(world.server.scheduler.clients) == [witness.number]

    def test_an_engine_hangs_up_and_its_nanny_tells_how_it_ended(self, world):
        engine, client = world.engine("e"), world.client()
        nanny = world.nanny("e")
        mine = task(client)
        world.hear(client, m.Submit([mine]))
        world.server.hung_up(world.engines, engine)
        world.server.act(world.now)
        assert not world.told(client, m.Results)
        world.hear(nanny, m.EngineExited("e", 22, -9, balanced=mine.id))
        (results,) = world.told(client, m.Results)
        fault = results.results[0].fault
        assert fault.kind == "EngineError"
        assert "SIGKILL" in fault.evalue
        assert results.engine == 0

    def test_its_nanny_is_first(self, world):
        engine, client = world.engine("e"), world.client()
        nanny = world.nanny("e")
        world.hear(nanny, m.EngineExited("e", 22, 3))
        assert not world.told(client, m.News)
        world.server.hung_up(world.engines, engine)
        world.server.act(world.now)
        assert world.told(client, m.News)[-1].left[0].reason == "exited with code 3"

    def test_nobody_tells_how_it_ended(self, world):
        engine, client = world.engine("e"), world.client()
        world.nanny("e")
        world.server.hung_up(world.engines, engine)
        assert world.server.next_deadline() <= world.now + REPORT_PATIENCE
        world.wait(REPORT_PATIENCE)
        assert "connection broke" in world.told(client, m.News)[-1].left[0].reason

    def test_without_a_nanny_it_goes_at_once(self, world):
        engine, client = world.engine(), world.client()
        world.server.hung_up(world.engines, engine)
        world.server.act(world.now)
        assert world.told(client, m.News)[-1].left[0].id == 0

    def test_what_cannot_be_sent_means_the_same(self, world):
        engine, client = world.engine(), world.client()
        world.engines.deaf.add(engine)
        world.hear(client, m.Direct([m.Request([0], task(client))]))
        assert world.told(client, m.Results)[0].results[0].fault.kind == "EngineError"
        world.clients.deaf.add(client)
        world.engine("other")
        assert not world.server.scheduler.clients

    @pytest.mark.parametrize("message", [m.Query(1, "statistics"), m.Ping(1)])
    def test_who_does_not_read_answers_is_let_go(self, world, message):
        client = world.client()
        world.clients.deaf.add(client)
        world.hear(client, message)
        assert world.clients.forgotten == [client]
        assert not world.server.scheduler.clients
        world.hear(client, message)  # the rest of what it had sent
        assert world.clients.forgotten == [client]

    def test_silence(self, world):
        engine, client = world.engine(), world.client()
        for _ in range(9):
            world.wait(PERIOD)
            world.hear(client, m.Ping(1))
        world.wait(PERIOD)
        world.hear(client, m.Ping(1))
        world.wait(PERIOD)
        assert "no sign of life" in world.told(client, m.News)[-1].left[0].reason
        assert engine in world.closed
        for _ in range(12):
            world.wait(PERIOD)
        assert client in world.closed

    def test_a_nanny_speaks_for_an_engine_that_is_busy(self, world):
        world.engine("e")
        nanny = world.nanny("e")
        for _ in range(20):
            world.wait(PERIOD)
            world.hear(nanny, m.Ping(1))
        assert list(world.server.scheduler.engines) == [0]
        for _ in range(12):
            world.wait(PERIOD)
        assert not world.server.scheduler.engines

    def test_own_sleep_is_nobodys_silence(self, world):
        engine, client = world.engine(), world.client()
        world.wait(10 * SILENCE)
        assert world.closed == []
        for peer in (engine, client):
            world.hear(peer, m.Ping(1))
        world.wait(PERIOD)
        assert world.closed == []

    def test_hanging_up_twice_and_strangers_that_hang_up(self, world):
        engine, client = world.engine(), world.client()
        for _ in range(2):
            for peer in (engine, client, world.stranger(world.clients)):
                world.server.hung_up(peer.port, peer)
                world.server.act(world.now)
        assert not world.server.scheduler.engines
        assert not world.server.scheduler.clients


# --- any message at all --------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(-2, 5), st.sampled_from([2**31 - 1, 2**40, 2**40 + 1, 2**40 + 2, 2**41, 2**62 - 1]))
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=3), st.lists(NUMBERS, max_size=2))


def values(kind):
    """Values of a field of a message."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return values(parts[0])
    if kind is int:
        return NUMBERS
    if kind is str:
        return st.sampled_from(["", "e0", "e1", "x", "why", "statistics", "queue_status", "story", "SIGINT"])
    if kind is bytes:
        return st.sampled_from([b"", b"f", b"g", NONE])
    if kind is bool:
        return st.booleans()
    if kind is float:
        return st.sampled_from([0.0, 1.5, -1.0, 1e300])
    if kind is object:
        return PLAIN
    if origin is list:
        return st.lists(values(parts[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(values(parts[0]), values(parts[1]), max_size=2)
    if parts:
        return st.one_of(*[st.none() if part is type(None) else values(part) for part in parts])
    return structs(kind)


def structs(kind):
    fields = {field.name: values(field.type) for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **fields)


FROM_CLIENT = st.one_of(*map(structs, typing.get_args(m.FromClient)))
FROM_ENGINE = st.one_of(*map(structs, typing.get_args(m.FromEngine)))
STEPS = st.one_of(
    st.tuples(st.sampled_from(["client 0", "client 1"]), FROM_CLIENT),
    st.tuples(st.sampled_from(["engine 0", "engine 1", "nanny"]), FROM_ENGINE),
    st.tuples(st.sampled_from(["engine 0", "engine 1", "client 0"]), st.just("hang up")),
    st.tuples(st.just("time"), st.sampled_from([0.01, 0.3, 5.0, 100.0])),
)


@pytest.fixture(scope="module")
def quiet():
    """Nothing of what the server says is written down until the end of this file."""
    logger = logging.getLogger("enginery.controller")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


@pytest.mark.usefixtures("quiet")
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=60)
@given(st.lists(STEPS, max_size=25), st.integers(0, 2))
def test_no_message_whatever_its_values_upsets_the_server(steps, frames):
    """Well-formed nonsense from peers that were let in: nothing is raised, and the books stay in order."""
    world = World()
    peers = {
        "client 0": world.client(),
        "client 1": world.client(),
        "engine 0": world.engine("e0"),
        "engine 1": world.engine("e1"),
        "nanny": world.nanny("e0", "e1"),
    }
    for who, message in steps:
        if who == "time":
            world.wait(message)
        elif message == "hang up":
            world.server.hung_up(peers[who].port, peers[who])
            world.server.act(world.now)
        else:
            world.hear(peers[who], message, [b"frame"] * frames)
        world.server.scheduler.settle()
        check(world.server.scheduler)


def test_a_client_that_does_not_read_gets_no_more_tasks_begun(world):
    client, engine = world.client(), world.engine()
    number = client.number << m.CLIENT_SHIFT
    world.hear(client, m.Submit([m.Task(number, 0, b"", b"")]))
    client.sent = 600 << 20  # of which it has read nothing
    world.hear(engine, m.Done([m.Result(number, m.Status.OK, NONE)]))
    world.hear(client, m.Submit([m.Task(number + 1, 0, b"", b"")]))
    assert [task.id for assign in world.told(engine, m.Assign) for task in assign.tasks] == [number]
    client.asked = client.sent
    world.hear(client, m.Pong(-client.sent))
    assert [task.id for assign in world.told(engine, m.Assign) for task in assign.tasks] == [number, number + 1]


def test_who_has_not_said_that_it_shares_memory_does_not(world):
    client, engine = world.client(), world.engine()
    world.hear(client, m.Shares())
    assert not client.shares, "there is none"
    assert not engine.shares


def test_data_are_where_engines_say(world):
    client, engine = world.client(), world.engine()
    world.hear(client, m.Query(1, "where", {"names": ["x"]}))
    assert world.told(engine, m.Watch) == [m.Watch(["x"])]
    world.hear(engine, m.Holds(names=["x"]))
    assert world.told(client, m.Answer) == [m.Answer(1, {"x": [engine.number]})]
    value = client.number << m.CLIENT_SHIFT
    world.hear(engine, m.Holds({value: 10}))
    world.hear(client, m.Query(2, "where", {"values": [value]}))
    world.hear(client, m.Query(3, "where", {"names": "x"}))
    assert world.told(client, m.Answer)[1] == m.Answer(2, [[engine.number]])
    assert "list of names" in world.told(client, m.Answer)[2].error
    world.hear(client, m.Forget([value]))
    assert world.told(engine, m.Forget) == [m.Forget([value])]
    world.hear(engine, m.Want([value]))
    assert world.told(engine, m.Results)[0].results[0].status == m.Status.LOST
