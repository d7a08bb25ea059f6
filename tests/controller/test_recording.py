"""The controller's records: made when asked for, bounded, told to those who wait, on ports that are lists."""

from __future__ import annotations

import os
import random

import pytest

from enginery.controller import recording as room
from enginery.controller.ports import Peer
from enginery.controller.recording import Recorder
from enginery.controller.safe import Safe
from enginery.controller.server import Server
from enginery.core import logbook as book
from enginery.core.journal import Journal
from enginery.core.logbook import Logbook
from enginery.core.recall import Recall
from enginery.core.scheduler import Scheduler
from enginery.net.segments import Pool
from enginery.store.backlog import Backlog
from enginery.store.memory import DictDB
from enginery.store.queries import Query
from enginery.store.records import KEYS
from enginery.wire import messages as m


class FakePort:
    """Keeps what is sent."""

    name = "port"

    def __init__(self, decode):
        self.decode = decode
        self.sent = []

    def send(self, peer, header, frames):
        self.sent.append((peer, self.decode(header), [bytes(frame) for frame in frames]))
        return True

    def introduced(self, peer):
        pass

    def overdue(self, now):
        return []

    def forget(self, peer):
        return -1


class World:
    """A server with a store in memory, one engine, and clients that ask by number."""

    def __init__(self, folder="", **limits):
        self.now = 1000.0
        self.clients, self.engines = FakePort(m.decode_to_client), FakePort(m.decode_to_engine)
        scheduler = self.scheduler = Scheduler(random=random.Random(0), journal=Journal(), hwm=0)
        self.recorder = Recorder(scheduler, Backlog(DictDB(**limits)), folder)
        self.server = Server(
            scheduler,
            clients=self.clients,
            engines=self.engines,
            welcome=m.Welcome(-1, "", 1, 3.0, 1 << 20, runtime=folder),
            silence=30.0,
            clock=lambda: self.now,
            recorder=self.recorder,
        )
        self.engine = Peer(self.engines)
        self.hear(self.engine, m.EngineHello(m.VERSION, "engine", 22, "there"))
        self.client = self.join("ours")

    def hear(self, peer, message, frames=()):
        self.now += 0.01
        self.server.hear(peer.port, peer, m.encode(message), list(frames), self.now)
        self.server.act(self.now)

    def join(self, session):
        peer = Peer(self.clients)
        self.hear(peer, m.ClientHello(m.VERSION, session, 11, "there", "ada"))
        return peer

    def submit(self, *numbers, payload=b"args", frames=(), **given):
        base = self.client.number << m.CLIENT_SHIFT
        tasks = [m.Task(base + each, 0, b"f", payload, len(frames), **given) for each in numbers]
        self.hear(self.client, m.Submit(tasks), frames)
        return [task.id for task in tasks]

    def finish(self, *tasks, payload=b"value", frames=(), **given):
        results = [m.Result(each, 0, payload, len(frames), 5.0, 6.0, **given) for each in tasks]
        self.hear(self.engine, m.Done(results), frames)

    def ask(self, name, client=None, **arguments):
        """The answer to a question: its value, or the error in words."""
        client = client or self.client
        self.hear(client, m.Query(7, name, arguments))
        answer = [message for to, message, _ in self.clients.sent if to is client and type(message) is m.Answer][-1]
        return answer.error or answer.value

    def told(self, client, kind):
        return [
            (message, frames) for to, message, frames in self.clients.sent if to is client and type(message) is kind
        ]


@pytest.fixture
def world():
    return World()


def test_nothing_is_made_while_nobody_asks(world):
    world.finish(*world.submit(*range(50)))
    assert len(world.scheduler.journal.ended) == 1
    assert len(world.ask("hub_history")) == 50
    assert world.scheduler.journal.ended == []


def test_what_ended_is_handed_over_when_there_is_enough_of_it(world, monkeypatch):
    monkeypatch.setattr(room, "WAITING", 20)
    for first in range(0, 100, 5):
        world.finish(*world.submit(*range(first, first + 5)))
        assert world.scheduler.journal.count < 20


def test_memory_stays_bounded_by_records_and_bytes(monkeypatch):
    monkeypatch.setattr(room, "WAITING", 20)
    world = World(record_limit=30)
    for first in range(0, 1000, 10):
        world.finish(*world.submit(*range(first, first + 10)))
    assert world.recorder.keeper.statistics()["records"] <= 50
    assert len(world.ask("hub_history")) <= 30
    large = World(size_limit=1_000_000)
    for number in range(100):
        large.finish(*large.submit(number, payload=bytes(30_000)), payload=bytes(30_000))
    assert large.recorder.keeper.statistics()["record_bytes"] <= 1_000_000
    assert 10 <= len(large.ask("hub_history")) <= 20


def test_frames_are_weighed_and_come_back(world):
    (task,) = world.submit(0, frames=[b"array"])
    world.finish(task, frames=[b"result", b"two"])
    (record,) = world.ask("db_query", query={}, keys=["buffers", "result_buffers"])
    assert record == {
        "msg_id": "ours_0", "buffers": [b"args", b"array"], "result_buffers": [b"value", b"result", b"two"],
    }  # fmt: skip


def test_unfinished_and_finished_are_one_history(world):
    first, second, third = world.submit(0, 1, 2)
    world.finish(second)
    assert world.ask("hub_history") == ["ours_0", "ours_1", "ours_2"]
    ended = world.ask("db_query", query={"completed": {"$ne": None}}, keys=["status"])
    assert ended == [{"msg_id": "ours_1", "status": "ok"}]
    assert [each["msg_id"] for each in world.ask("db_query", query={"completed": None}, keys=[])] == [
        "ours_0",
        "ours_2",
    ]
    assert world.ask("task_status", ids=["ours_0", "ours_1"]) == {"ours_0": "pending", "ours_1": "completed"}
    world.finish(first, third)
    assert world.ask("hub_history") == ["ours_0", "ours_1", "ours_2"]


def test_who_follows_gets_output_and_result_under_an_id_of_its_own(world):
    done, running = world.submit(0, 1, frames=())
    world.hear(world.engine, m.Said([m.Output(done, "stdout", "one"), m.Output(running, "stdout", "two")]))
    world.finish(done, frames=[b"array"])
    other = world.join("theirs")
    alias = other.number << m.CLIENT_SHIFT
    facts = world.ask("follow", other, ids=["ours_0", "ours_1"], **{"as": [alias, alias + 1]})
    assert facts["ours_0"]["engine_uuid"] == "engine"
    assert facts["ours_1"]["task"] == running
    ((results, frames),) = world.told(other, m.Results)
    assert [(each.id, each.payload, each.frames) for each in results.results] == [(alias, b"value", 1)]
    assert frames == [b"array"]
    world.finish(running, payload=b"late")
    results, _ = world.told(other, m.Results)[-1]
    assert [(each.id, each.payload) for each in results.results] == [(alias + 1, b"late")]
    said = [output for message, _ in world.told(other, m.Outputs) for output in message.outputs]
    assert [(each.task, each.text) for each in said] == [(alias, "one"), (alias + 1, "two")]
    assert world.recorder.followed == {}


def test_who_leaves_follows_no_more(world):
    (running,) = world.submit(0)
    other, stays = world.join("theirs"), world.join("third")
    for client in (other, stays):
        world.ask("follow", client, ids=["ours_0"], **{"as": [client.number << m.CLIENT_SHIFT]})
    world.hear(other, m.Bye())
    assert world.recorder.followed == {running: [(stays.number, stays.number << m.CLIENT_SHIFT)]}
    said = world.ask("follow", stays, ids=["ours_0", "nobody_1"], **{"as": [1, 2]})
    assert "no record of nobody_1" in said
    assert world.recorder.followed == {running: [(stays.number, stays.number << m.CLIENT_SHIFT)]}
    world.finish(running)
    assert len(world.told(stays, m.Results)) == 1


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("db_query", {"query": {"size": 1}}, "db_query: Records have no key 'size'"),
        ("db_query", {"query": {}, "keys": ["size"]}, "db_query: Records have no key 'size'"),
        ("follow", {"ids": "x", "as": [1]}, "follow: the argument 'ids' has to be a list of strings"),
        ("follow", {"ids": ["x_1"], "as": []}, "follow: the argument 'as' has to be a list of 1 ids"),
        ("resubmit", {"ids": ["x_1"], "as": [-1]}, "resubmit: the argument 'as'"),
        ("resubmit", {"ids": ["x_1"], "as": [5]}, "There is no record of x_1. hub_history()"),
        ("task_status", {"ids": [5]}, "task_status: the argument 'ids'"),
        ("purge", {"ids": ["ours_0"]}, "purge: ours_0 has not ended"),
        ("purge", {"ids": ["ours_99"]}, "There is no record of ours_99"),
    ],
)
def test_questions_that_make_no_sense(world, name, arguments, words):
    world.submit(0)
    assert words in world.ask(name, **arguments)


def test_what_is_gone_is_told_with_the_budget():
    world = World(record_limit=5)
    world.finish(*world.submit(*range(2000)))
    said = world.ask("task_status", ids=["ours_0"])
    assert said.startswith("There is no record of ours_0 any more: either it was purged, or newer ones took its place")
    assert "newest 5 finished tasks are kept" in said


def test_running_again_uses_what_was_kept(world):
    (task,) = world.submit(0, frames=[b"array"], options=m.Options(retries=3, label="x", after=m.Dependency([])))
    world.finish(task)
    other = world.join("theirs")
    alias = other.number << m.CLIENT_SHIFT
    facts = world.ask("resubmit", other, ids=["ours_0"], **{"as": [alias]})
    assert facts == {"theirs_0": {"content": {"action": "apply", "function": b"f".hex()}}}
    message, frames = [(msg, frames) for _, msg, frames in world.engines.sent if type(msg) is m.Assign][-1]
    (again,) = message.tasks
    assert (again.id, again.function, again.payload, frames) == (alias, b"f", b"args", [b"array"])
    assert again.options == m.Options(retries=3, label="x")
    assert world.ask("db_query", query={"msg_id": "ours_0"}, keys=["resubmitted"])[0]["resubmitted"] == "theirs_0"


def test_shared_memory_is_held_while_its_record_is_there(tmp_path):
    pool = Pool(str(tmp_path), "e0")
    world = World(str(tmp_path), size_limit=4_000_000)
    (task,) = world.submit(0)
    name = pool.put(memoryview(b"x" * 500_000))
    world.finish(task, payload=b"head", shared=[m.Segment(0, name, 500_000)])
    pool.release([name])
    for number in range(10):  # the owner goes on, and must not write into what is held
        pool.release([pool.put(memoryview(bytes([number]) * 500_000))])
    (record,) = world.ask("db_query", query={}, keys=["result_buffers"])
    assert record["result_buffers"] == [b"head", b"x" * 500_000]
    assert mapped(tmp_path) == 1
    for number in range(1, 30):
        world.finish(*world.submit(number, payload=bytes(400_000)))
    assert world.ask("db_query", query={"msg_id": "ours_0"}, keys=[]) == []
    assert mapped(tmp_path) == 0


def test_results_nobody_asked_for_are_not_held(tmp_path):
    pool = Pool(str(tmp_path), "e0")
    world = World(str(tmp_path))
    name = pool.put(memoryview(b"x" * 500_000))
    world.finish(4711, payload=b"", shared=[m.Segment(0, name, 500_000)])
    world.finish(*world.submit(0), shared=[m.Segment(0, "e0-999", 500_000)])
    assert world.ask("db_query", query={}, keys=["status", "result_buffers"]) == [
        {"msg_id": "ours_0", "status": "ok", "result_buffers": []}
    ]
    assert mapped(tmp_path) == 0


def mapped(folder):
    """Read-only mappings of this process into a folder: those of readers."""
    with open(f"/proc/{os.getpid()}/maps") as maps:
        return sum(str(folder) in line and " rw-p " in line for line in maps)


class TestAnotherControllersTime:
    """What a recorder knows after its controller was started again."""

    FIRST, SECOND = (number << m.CLIENT_SHIFT for number in (1, 2))

    def recall(self, *entries):
        scheduler = Scheduler(random=random.Random(0), journal=Journal(), logbook=Logbook(), first_client=4001)
        recorder, recall = Recorder(scheduler, Backlog(DictDB())), Recall()
        for entry in entries:
            recall.read(book.decode(book.encode(entry)), [])
        recorder.recall(recall)
        recall.put_into(scheduler, 5.0)
        return recorder

    def records(self, recorder):
        found = []
        recorder.keeper.ask(lambda store: store.find_records(Query({}), KEYS), found.extend)
        return found

    def lives(self):
        """Two clients with a task each; the second one has left."""
        return [
            book.Came(m.EngineInfo(0, "engine", 22, "there")),
            book.Joined(1, "ada@there:11", "ours", "token"),
            book.Joined(2, "bob@there:12", "theirs", "token"),
            book.Accepted([m.Task(self.FIRST + 7, 0, b"f", b"args")]),
            book.Submitted([(self.FIRST + 7, 100.0)]),
            book.Accepted([m.Task(self.SECOND + 3, 0, b"f", b"args")], [0]),
            book.Submitted([(self.SECOND + 3, 101.0)]),
            book.Gone(2, "bob@there:12", "theirs"),
        ]

    def test_tasks_of_clients_that_are_away_or_left_have_names_and_moments(self):
        recorder = self.recall(*self.lives())
        assert recorder.task_id("ours_7") == self.FIRST + 7
        assert recorder.task_id("theirs_3") == self.SECOND + 3
        facts = {entry.msg_id: (entry.submitted, entry.direct, entry.origin.user) for entry in recorder.unfinished()}
        assert facts == {"ours_7": (100.0, False, "ada"), "theirs_3": (101.0, True, "bob")}

    def test_they_are_the_same_after_the_logbook_was_begun_anew(self):
        recorder = self.recall(*self.lives())
        page = recorder.written()
        assert sorted(moments for entry, _ in page for moments in entry.moments) == [
            (self.FIRST + 7, 100.0),
            (self.SECOND + 3, 101.0),
        ]

    def test_who_comes_back_keeps_them(self):
        recorder = self.recall(*self.lives())
        recorder.client_joined(recorder._scheduler.clients[1])
        (entry,) = recorder.unfinished([self.FIRST + 7])
        assert entry.submitted == 100.0

    def test_results_on_their_way_are_recorded(self):
        results = [m.Result(self.FIRST + 7, 0, b"value", 0, 110.0, 111.0)]
        recorder = self.recall(*self.lives(), book.Ended(0, results))
        (record,) = self.records(recorder)
        assert (record["msg_id"], record["status"], record["result_buffers"]) == ("ours_7", "ok", [b"value"])
        assert (record["submitted"].timestamp(), record["completed"].timestamp()) == (100.0, 111.0)
        assert (record["engine_uuid"], record["queue"], record["content"]["action"]) == ("engine", "task", "apply")

    def test_of_a_task_that_is_not_known_any_more_only_the_result_is(self):
        results = [m.Result(self.FIRST + 8, 0, b"value", 0, 110.0, 111.0)]
        recorder = self.recall(*self.lives(), book.Ended(0, results))
        (record,) = self.records(recorder)
        assert (record["msg_id"], record["result_buffers"], record["content"]) == ("ours_8", [b"value"], None)

    def test_what_a_client_has_is_not_recorded_again(self):
        results = [m.Result(self.FIRST + 7, 0, b"value", 0, 110.0, 111.0)]
        recorder = self.recall(*self.lives(), book.Ended(0, results), book.Taken([self.FIRST + 7]))
        assert self.records(recorder) == []


class Place:
    """Where pages are saved when somebody says so."""

    def __init__(self):
        self.pages, self.saved, self.grown = [], 0, False

    def put(self, page):
        self.pages.append(page)
        return len(self.pages)

    def begin_anew(self, page):
        self.pages[:] = [[] for _ in self.pages]
        return self.put(page)

    def recalled(self, upto=None):
        """What the next controller would know if the lights went out now."""
        recall = Recall(records_last=True)
        for page in self.pages[: self.saved if upto is None else upto]:
            for entry, frames in page:
                recall.read(book.decode(book.encode(entry)), list(frames))
        return recall


class Keeper:
    """A store that lasts, behind a queue that stands still."""

    lasts = only_ended = True
    largest = float("inf")

    def __init__(self):
        self.queue = []
        self.write = self.queue.append

    def ask(self, question, reply):
        self.queue.append((question, reply))

    def limits(self):
        return ""


class DurableWorld(World):
    """The same with a logbook, and a store that lasts."""

    def __init__(self):
        super().__init__()
        self.place, self.keeper = Place(), Keeper()
        scheduler = self.scheduler = Scheduler(random=random.Random(0), journal=Journal(), hwm=0, logbook=Logbook())
        self.recorder = Recorder(scheduler, self.keeper)
        self.server = Server(
            scheduler,
            clients=self.clients,
            engines=self.engines,
            welcome=m.Welcome(-1, "", 1, 3.0, 1 << 20, patience=30.0),
            silence=30.0,
            clock=lambda: self.now,
            recorder=self.recorder,
            safe=Safe(self.place),
        )
        self.engine = Peer(self.engines)
        self.hear(self.engine, m.EngineHello(m.VERSION, "engine", 22, "there"))
        self.client = self.join("ours")
        self.save()

    def save(self):
        self.place.saved = len(self.place.pages)
        self.server.release()

    def turn(self):
        self.server.act(self.now)
        self.save()


class TestNothingIsLostOnTheWayToTheStore:
    """Tasks that ended stand in the logbook until the store has them, and in the store only once the logbook knows."""

    @pytest.fixture
    def world(self):
        return DurableWorld()

    def run(self, world, *numbers, **given):
        tasks = world.submit(*numbers, **given)
        world.save()
        world.finish(*tasks)
        return tasks

    def test_the_store_is_told_once_the_end_is_saved(self, world):
        (task,) = self.run(world, 0)
        assert world.keeper.queue == []
        assert world.place.recalled(len(world.place.pages)).unrecorded.keys() == {task}
        world.save()
        (batch,) = world.keeper.queue
        assert batch.ids() == [task]

    def test_it_is_owed_until_the_store_has_it_and_however_the_logbook_is_written(self, world):
        first = self.run(world, 0, frames=[b"array"])
        world.hear(world.engine, m.Said([m.Output(first[0], "stdout", "late")]))
        second = world.submit(1, 2)
        world.save()
        world.hear(world.engine, m.Said([m.Output(second[0], "stdout", "hello")]))
        world.finish(second[0], frames=[b"result"])
        world.save()
        world.hear(world.client, m.Bye())
        for _ in range(2):
            world.turn()
            recall = world.place.recalled()
            assert recall.unrecorded.keys() == {first[0], second[0]}
            ended = recall.unrecorded[first[0]]
            assert (ended.frames, ended.direct, ended.engine.uuid, ended.said) == ([b"array"], False, "engine", [])
            ended = recall.unrecorded[second[0]]
            assert (ended.result_frames, [output.text for output in ended.said]) == ([b"result"], ["hello"])
            world.place.grown = True
        world.place.grown = False
        one, *others = world.keeper.queue
        one.is_done = True
        world.turn()
        assert world.place.recalled().unrecorded.keys() == {second[0]}
        for batch in others:
            batch.is_done = True
        world.turn()
        assert world.place.recalled().unrecorded == {}

    def test_the_next_controller_has_it_recorded_and_owes_it_meanwhile(self, world):
        (task,) = self.run(world, 0, frames=[b"array"])
        world.save()
        world.hear(world.client, m.Bye())
        world.turn()
        again = DurableWorld()
        again.server.recall(world.place.recalled())
        (batch,) = again.keeper.queue
        (record,) = batch.records().values()
        assert (record["msg_id"], record["buffers"], record["result_buffers"]) == (
            "ours_0",
            [b"args", b"array"],
            [b"value"],
        )
        again.place.begin_anew(again.server.written())
        again.turn()
        assert again.place.recalled().unrecorded.keys() == {task}
        batch.is_done = True
        again.turn()
        assert again.place.recalled().unrecorded == {}

    def test_output_of_tasks_that_run_goes_into_their_record(self, world):
        (task,) = world.submit(0)
        world.save()
        world.hear(world.engine, m.Said([m.Output(task, "stdout", "hello")]))
        world.save()
        for page in ([], world.server.written()):
            recall = world.place.recalled()
            if page:
                recall = Recall(records_last=True)
                for entry, frames in page:
                    recall.read(entry, frames)
            again = DurableWorld()
            again.server.recall(recall)
            assert [output.text for output in again.scheduler.journal.said[task]] == ["hello"]

    def test_questions_and_changes_come_after_what_they_are_about(self, world):
        self.run(world, 0)
        world.hear(world.client, m.Query(7, "task_status", {"ids": ["ours_0"]}))
        world.recorder.change({"ours_0": {"resubmitted": "ours_1"}})
        assert world.keeper.queue == []
        world.save()
        batch, question, change = world.keeper.queue
        assert (batch.ids(), type(question), change.count) == ([world.client.number << m.CLIENT_SHIFT], tuple, 1)

    def test_what_was_purged_stays_away(self, world):
        (task,) = self.run(world, 0)
        world.save()
        world.hear(world.client, m.Query(7, "purge", {"ids": "all"}))
        world.save()
        batch, (_, reply) = world.keeper.queue
        batch.is_done = True
        reply(1)
        answers = lambda: [message for _, message, _ in world.clients.sent if type(message) is m.Answer]
        assert answers() == []
        assert task in world.place.recalled().unrecorded
        world.turn()
        assert world.place.recalled().unrecorded == {}
        assert [answer.value for answer in answers()] == [1]
