"""The scheduler under any course of events: invariants hold after every step, each task ends exactly once."""

from __future__ import annotations

from collections import Counter, deque
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from enginery.core import questions
from enginery.core.actions import To
from enginery.core.invariants import check, check_dealt
from enginery.core.journal import Journal
from enginery.core.placement import SCHEMES
from enginery.core.scheduler import Scheduler
from enginery.wire import messages as m

FUNCTIONS = [b"", b"", b"f", b"g"]
PICK = st.integers(0, 2**16)
MOST = 1000


def pick(number, choices):
    """One of ``choices``, by a number drawn before they were known."""
    return choices[number % len(choices)]


class Engine:
    """What an engine has been sent."""

    def __init__(self, record):
        self.record = record
        self.direct = deque()
        self.balanced = deque()
        self.functions = set()
        self.held_back = set()
        self.aside = []
        self.words = deque()  # that the scheduler has not heard yet
        self.returns = deque()
        self.aborts = deque()
        self.begun = -1

    def runnable(self):
        """The queue whose first task is next, None if there is none."""
        for queue in (self.direct, self.balanced):
            if queue and (not queue[0].function or queue[0].function in self.functions):
                return queue
        return None

    def missing(self):
        return {t.function for q in (self.direct, self.balanced) for t in q if t.function} - self.functions

    def give(self, tasks):
        """Tasks are addressed to this engine; those that it shall not begin for now are set aside."""
        aside = [task for task in tasks if task.id >> m.CLIENT_SHIFT in self.held_back]
        self.direct += [task for task in tasks if task not in aside]
        self.aside += aside
        if aside:
            self.words.append(m.Paused([task.id for task in aside]))

    def hold(self, clients):
        """Begin nothing for these clients for now."""
        self.held_back = set(clients)
        tasks, back = [*self.aside, *self.direct], []
        self.aside, self.direct = [], deque()
        self.give(tasks)
        for task in [task for task in self.balanced if task.id >> m.CLIENT_SHIFT in self.held_back]:
            self.balanced.remove(task)
            back.append(task.id)
        if back:
            self.words.append(m.Returned(back))


class SchedulerMachine(RuleBasedStateMachine):
    """Stimuli of all kinds; ``turn`` performs what the scheduler asks, as the controller's loop would."""

    @initialize(scheme=st.sampled_from(sorted(SCHEMES)), hwm=st.sampled_from([None, None, 0, 1, 3]), seed=PICK)
    def begin(self, scheme, hwm, seed):
        self.scheduler = Scheduler(random=Random(seed), scheme=scheme, hwm=hwm, journal=Journal(), most_unread=MOST)
        self.now = 0.0
        self.clients = {}
        self.engines = {}
        self.next_ids = {}
        self.accepted = {}  # task id -> engine it is addressed to, or None
        self.options = {}
        self.replies = Counter()
        self.gone = set()
        self.asked = deque()  # (client number, digest)
        self.sent = []
        self.ended_at = Counter()
        self.kept = set()  # tasks whose values engines have told of
        self.fetches = 0
        self.client_joins()
        self.engine_joins(-1)

    # --- clients ------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.clients) < 3)
    @rule()
    def client_joins(self):
        client = self.scheduler.client_joined("someone", "token", self.now)
        self.clients[client.number] = client
        self.next_ids[client.number] = client.number << m.CLIENT_SHIFT

    @precondition(lambda self: len(self.clients) > 1)
    @rule(which=PICK)
    def client_leaves(self, which):
        number = pick(which, sorted(self.clients))
        del self.clients[number]
        self.gone.add(number)
        self.scheduler.client_left(number)

    def take_ids(self, client, count, skip=0):
        first = self.next_ids[client] + skip
        self.next_ids[client] = first + count
        return first

    @rule(which=PICK, count=st.integers(1, 12), function=st.sampled_from(FUNCTIONS), skip=st.sampled_from([0, 0, 0, 3]))
    def submit(self, which, count, function, skip):
        client = pick(which, sorted(self.clients))
        first = self.take_ids(client, count, skip)
        self.send(client, [m.Task(number, 0, function, b"") for number in range(first, first + count)], [])

    @rule(
        which=PICK,
        function=st.sampled_from(FUNCTIONS),
        frames=st.integers(0, 2),
        places=st.none() | st.none() | st.lists(st.integers(0, 4), max_size=3),
        retries=st.integers(0, 4),
        priority=st.integers(-1, 1),
        timeout=st.sampled_from([None, None, 0.0, 1.0, float("nan"), float("inf")]),
        after=st.lists(PICK, max_size=3),
        follow=st.lists(PICK, max_size=2),
        flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
        company=st.booleans(),
        keep=st.booleans(),
        names=st.sampled_from([None, None, None, ["x"], ["x", "y"]]),
        values=st.lists(PICK, max_size=2),
    )
    def submit_special(  # every option a task can have
        self,
        which,
        function,
        frames,
        places,
        retries,
        priority,
        timeout,
        after,
        follow,
        flags,
        company,
        keep,
        names,
        values,
    ):
        client = pick(which, sorted(self.clients))
        first = self.take_ids(client, 3 if company else 1)
        known = [*sorted(self.accepted), first, first + 1, 17]
        everything, success, failure = flags
        after, follow = (
            m.Dependency([pick(one, known) for one in ids], all=everything, success=success, failure=failure)
            if ids
            else None
            for ids in (after, follow)
        )
        options = m.Options(places, after, follow, timeout, retries, "label", priority, None, keep, names)
        if values and self.kept:
            options.values = [pick(one, sorted(self.kept)) for one in values]
        tasks = [m.Task(first, 0, function, b"", frames, options)]
        if company:
            tasks += [m.Task(first + 1, 0, b"", b""), m.Task(first + 2, 0, b"f", b"", 1, m.Options(retries=1))]
        buffers = [f"{task.id} {at}" for task in tasks for at in range(task.frames)]
        self.send(client, tasks, buffers)

    def send(self, client, tasks, buffers):
        for task in tasks:
            self.accepted[task.id] = None
            if task.options is not None:
                self.options[task.id] = task.options
        self.sent.append((client, tasks, buffers))
        self.scheduler.tasks_submitted(self.clients[client], list(tasks), list(buffers), self.now)

    @precondition(lambda self: self.sent)
    @rule(which=PICK)
    def submit_again(self, which):
        client, tasks, buffers = pick(which, self.sent)
        if client in self.clients:
            before = self.scheduler.counts["submitted"]
            self.scheduler.tasks_submitted(self.clients[client], list(tasks), list(buffers), self.now)
            assert self.scheduler.counts["submitted"] == before

    @rule(which=PICK, places=st.lists(st.integers(0, 5), min_size=1, max_size=3), function=st.sampled_from(FUNCTIONS))
    def request(self, which, places, function):
        client = pick(which, sorted(self.clients))
        first = self.take_ids(client, len(places))
        self.accepted.update((first + at, target) for at, target in enumerate(places))
        request = m.Request(places, m.Task(first, 0, function, b"", 1))
        self.scheduler.requests_submitted(self.clients[client], [request, request], ["frame", "frame"])

    @precondition(lambda self: self.accepted)
    @rule(which=PICK, ids=st.lists(PICK, max_size=4), interrupt=st.booleans())
    def abort(self, which, ids, interrupt):
        client = pick(which, sorted(self.clients))
        known = sorted(self.accepted)
        chosen = [pick(one, known) for one in ids]
        self.scheduler.abort_requested(self.clients[client], chosen, interrupt=interrupt)

    @rule(which=PICK, digest=st.sampled_from([b"f", b"g"]))
    def introduce(self, which, digest):
        self.scheduler.functions_arrived(self.clients[pick(which, sorted(self.clients))], {digest: b"body"})

    @precondition(lambda self: self.asked)
    @rule(has=st.booleans())
    def answer(self, has):
        client, digest = self.asked.popleft()
        if client in self.clients:
            self.scheduler.functions_arrived(self.clients[client], {digest: b"body" if has else b""})

    # --- engines ------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.engines) < 5)
    @rule(wanted=st.sampled_from([-1, -1, 0, 3, 7, 2**40]))
    def engine_joins(self, wanted):
        record = self.scheduler.engine_joined("uuid", 1, "host", wanted, self.now)
        assert record.info.id not in self.engines
        self.engines[record.info.id] = Engine(record)

    @precondition(lambda self: self.engines)
    @rule(which=PICK, reported=st.booleans())
    def engine_leaves(self, which, reported):
        engine = self.engines.pop(pick(which, sorted(self.engines)))
        balanced = engine.begun if reported else None
        self.scheduler.engine_left(engine.record.info.id, "killed by SIGKILL", balanced=balanced)
        self.scheduler.engine_left(engine.record.info.id, "noticed twice")

    @precondition(lambda self: self.engines)
    @rule(which=PICK)
    def engine_hangs_up(self, which):
        number = pick(which, sorted(self.engines))
        self.turn()
        self.scheduler.engine_hung_up(number)
        self.turn()
        self.engine_leaves(which, reported=True)

    @precondition(lambda self: any(engine.runnable() for engine in self.engines.values()))
    @rule(
        which=PICK,
        count=st.integers(1, 8),
        ending=st.sampled_from(["ok", "ok", "ok", "error", "unmet", "aborted"]),
        seconds=st.sampled_from([0.0, 1e-5, 0.1, -1.0, float("nan"), float("inf")]),
        frames=st.booleans(),
        again=st.booleans(),
    )
    def results(self, which, count, ending, seconds, frames, again):
        engine = pick(which, [one for _, one in sorted(self.engines.items()) if one.runnable()])
        results, buffers = [], []
        while len(results) < count and (queue := engine.runnable()):
            result = self.end(engine, queue.popleft(), ending, seconds, frames=frames)
            buffers += [f"{result.id}"] * result.frames
            results.append(result)
        self.scheduler.results_arrived(engine.record, results, buffers, self.now)
        if again:
            strange = [m.Result(3, 0, b""), m.Result(4, 1, b"", fault=m.Fault("remote", "E", "e"))]
            self.scheduler.results_arrived(engine.record, strange, [], self.now)
        self.scheduler.output_arrived(engine.record, [m.Output(results[0].id, "stdout", "late")])

    def end(self, engine, task, ending, seconds, *, frames=False):
        if self.accepted.get(task.id, -1) is None:
            engine.begun = task.id
        self.scheduler.output_arrived(engine.record, [m.Output(task.id, "stdout", "hi")])
        if ending == "ok":
            if task.options is not None and task.options.keep:
                self.scheduler.places.told(engine.record, m.Holds({task.id: 10}))
                self.kept.add(task.id)
            self.ended_at[task.id, engine.record.info.id] += 1
            return m.Result(task.id, 0, b"", int(frames), 1.0, 1.0 + seconds)
        kind = {"error": "remote", "unmet": "UnmetDependency", "aborted": "TaskAborted"}[ending]
        status = m.Status.ABORTED if ending == "aborted" else m.Status.ERROR
        return m.Result(task.id, status, b"", 0, 1.0, 1.0 + seconds, m.Fault(kind, kind, "as told"))

    @precondition(lambda self: any(engine.returns for engine in self.engines.values()))
    @rule(which=PICK, fewer=st.integers(0, 2))
    def hand_back(self, which, fewer):
        engine = pick(which, [one for _, one in sorted(self.engines.items()) if one.returns])
        count = max(0, engine.returns.popleft() - fewer)
        ids = []
        while engine.balanced and len(ids) < count:
            ids.append(engine.balanced.pop().id)
        self.scheduler.tasks_returned(engine.record, [*ids[::-1], 99], self.now)

    @precondition(lambda self: any(engine.aborts for engine in self.engines.values()))
    @rule(which=PICK)
    def obey(self, which):
        engine = pick(which, [one for _, one in sorted(self.engines.items()) if one.aborts])
        ids = engine.aborts.popleft()
        results = []
        for queue in (engine.direct, engine.balanced, engine.aside):
            for task in [task for task in queue if task.id in ids]:
                queue.remove(task)
                results.append(m.Result(task.id, m.Status.ABORTED, b"", fault=m.Fault("TaskAborted", "", "")))
        self.scheduler.results_arrived(engine.record, results, [], self.now)

    @precondition(lambda self: any(engine.missing() for engine in self.engines.values()))
    @rule(which=PICK)
    def miss(self, which):
        engine = pick(which, [one for _, one in sorted(self.engines.items()) if one.missing()])
        self.scheduler.functions_missing(engine.record, sorted(engine.missing()))

    @rule(which=PICK, size=st.sampled_from([0, MOST // 2, MOST, MOST + 1]))
    def client_reads_slowly(self, which, size):
        self.scheduler.results_unread(pick(which, sorted(self.clients)), size)

    @precondition(lambda self: any(engine.words for engine in self.engines.values()))
    @rule(which=PICK)
    def say_what_was_set_aside(self, which):
        engine = pick(which, [one for _, one in sorted(self.engines.items()) if one.words])
        said = engine.words.popleft()
        if isinstance(said, m.Paused):
            self.scheduler.tasks_paused(engine.record, said.ids)
        else:
            self.scheduler.tasks_returned(engine.record, said.ids, self.now)

    # --- data ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.engines)
    @rule(which=PICK, names=st.sets(st.sampled_from("xyz")), lacks=st.sets(st.sampled_from("xyz")))
    def tell_names(self, which, names, lacks):
        engine = self.engines[pick(which, sorted(self.engines))]
        self.scheduler.places.told(engine.record, m.Holds({}, sorted(names), sorted(lacks)))

    @precondition(lambda self: self.engines and self.kept)
    @rule(which=PICK, values=st.lists(PICK, min_size=1, max_size=3), comes=st.booleans())
    def want(self, which, values, comes):
        engine = self.engines[pick(which, sorted(self.engines))]
        wanted = [pick(one, sorted(self.kept)) for one in values]
        self.scheduler.places.wanted(engine.record, wanted)
        if comes:
            self.scheduler.places.told(engine.record, m.Holds(dict.fromkeys(wanted, 10)))

    @precondition(lambda self: self.kept)
    @rule(which=PICK, values=st.lists(PICK, min_size=1, max_size=3))
    def forget(self, which, values):
        client = pick(which, sorted(self.clients))
        self.scheduler.places.forgotten(client, [pick(one, sorted(self.kept)) for one in values])

    @rule(which=PICK, names=st.lists(st.sampled_from("xyz"), min_size=1, unique=True))
    def ask_where(self, which, names):
        self.scheduler.places.ask(pick(which, sorted(self.clients)), 1, names, self.now)

    # --- time ---------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.01, 2.0]))
    def tick(self, seconds):
        self.now += seconds
        self.scheduler.tick(self.now)
        due = self.scheduler.next_deadline()
        assert due is None or due > self.now

    @rule()
    def turn(self):
        for action in self.scheduler.take_actions(self.now):
            if action.to == To.CLIENT:
                self.tell_client(action.number, action.message, action.frames)
            elif action.number in self.engines:
                self.tell_engine(self.engines[action.number], action.message, action.frames)
        self.scheduler.settle()
        check_dealt(self.scheduler)
        assert not self.scheduler.take_actions(self.now)

    def tell_client(self, number, message, frames):
        if isinstance(message, m.Results):
            assert len(frames) == sum(result.frames for result in message.results)
            for result in message.results:
                assert result.id >> m.CLIENT_SHIFT == number
                assert result.id in self.accepted
                assert result.status or self.ended_at[result.id, message.engine] == 1
                assert (result.status == 0) == (result.fault is None)
                assert frames[: result.frames] == [str(result.id)] * result.frames
                del frames[: result.frames]
                self.replies[result.id] += 1
                assert self.replies[result.id] == 1
        elif isinstance(message, m.Missing):
            self.asked += [(number, digest) for digest in message.digests]

    def tell_engine(self, engine, message, frames):
        number = engine.record.info.id
        if isinstance(message, m.Assign):
            for task in message.tasks:
                options, target = self.options.get(task.id), self.accepted[task.id]
                assert message.direct == (target is not None)
                assert target in {None, number}
                assert not self.replies[task.id]
                assert options is None or options.targets is None or number in options.targets
                if target is None:
                    assert frames[: task.frames] == [f"{task.id} {at}" for at in range(task.frames)]
                del frames[: task.frames]
            assert not frames
            if message.direct:
                engine.give(message.tasks)
            else:
                assert not {task.id >> m.CLIENT_SHIFT for task in message.tasks} & engine.held_back
                engine.balanced += message.tasks
        elif isinstance(message, m.Fetch):
            self.fetches += len(message.tasks)
            engine.give(message.tasks)
        elif isinstance(message, m.Hold):
            engine.hold(message.clients)
        elif isinstance(message, m.Functions):
            engine.functions |= message.bodies.keys()
        elif isinstance(message, m.Return):
            assert message.count > 0
            engine.returns.append(message.count)
        elif isinstance(message, m.Abort):
            engine.aborts.append(message.ids)

    @precondition(lambda self: self.accepted)
    @rule(which=PICK, verbose=st.booleans())
    def ask(self, which, verbose):
        assert questions.why(self.scheduler, pick(which, sorted(self.accepted)), self.now)
        questions.queue_status(self.scheduler, None, verbose=verbose)
        statistics = questions.statistics(self.scheduler)
        assert statistics["submitted"] - statistics["ended"] == statistics["unfinished"]

    # --- what has to hold ---------------------------------------------------------------------------------------

    @invariant()
    def holds(self):
        if hasattr(self, "scheduler"):
            check(self.scheduler)

    def teardown(self):
        if not hasattr(self, "scheduler"):
            return
        scheduler = self.scheduler
        for client in list(scheduler.dealer.held_back):
            scheduler.results_unread(client, 0)
        for _ in range(20 + 2 * len(self.accepted)):
            self.turn()
            if not scheduler.book.tasks:
                break
            if not self.engines:
                self.engine_joins(-1)
            self.tick(2.0)
            self.drain()
            check(scheduler)
        assert not scheduler.book.tasks, [questions.why(scheduler, task, self.now) for task in scheduler.book.tasks]
        self.turn()
        for task in self.accepted:
            assert self.replies[task] == 1 or task >> m.CLIENT_SHIFT in self.gone, f"{task:#x} has no reply"
        noted = Counter(task.id for ended in scheduler.journal.take() for task in ended.tasks)
        assert noted == Counter(list(self.accepted)), "each task is noted once when it ends"
        assert not scheduler.journal.direct
        assert not scheduler.journal.said
        assert not scheduler.admission
        assert not scheduler.book.waiting
        assert not scheduler.dealer.lanes
        assert not scheduler.dealer.has_work()
        assert scheduler.counts["ended"] == scheduler.counts["submitted"] == len(self.accepted) + self.fetches
        for client in sorted(self.clients):
            scheduler.client_left(client)
        assert scheduler.places.is_empty()

    def drain(self):
        while self.asked:
            self.answer(has=False)
        for number in sorted(self.engines):
            engine = self.engines[number]
            while engine.words:
                self.say_what_was_set_aside(0)
            while engine.aborts:
                self.obey(0)
            while engine.returns:
                engine.returns.popleft()
                scheduler_says_nothing = self.scheduler.tasks_returned(engine.record, [], self.now)
                assert scheduler_says_nothing is None
            if engine.missing():
                self.scheduler.functions_missing(engine.record, sorted(engine.missing()))
            results = []
            while queue := engine.runnable():
                results.append(self.end(engine, queue.popleft(), "ok", 0.0))
            self.scheduler.results_arrived(engine.record, results, [], self.now)


SchedulerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestScheduler = SchedulerMachine.TestCase
