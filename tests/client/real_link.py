"""A link to a controller that says whatever a test wants, and what is asked over it."""

from __future__ import annotations

import threading

from enginery.client.link import Link
from enginery.wire import messages as m
from enginery.wire.serialize import NONE
from fake_controller import PATIENCE

ENGINE = m.EngineInfo(0, "uuid", 77, "there")


class Sink:
    """Keeps what comes."""

    def __init__(self, count=1) -> None:
        self.count = count
        self.results = []
        self.outputs = []
        self.settled_by = []
        self.over = threading.Event()

    def arrived(self, result, engine, buffers, when):
        self.results.append((result, engine, [bytes(each) for each in buffers]))
        return len(self.results) == self.count

    def said(self, output, engine):
        self.outputs.append((output.text, engine))

    def settled(self):
        self.settled_by.append(threading.current_thread().name)
        self.over.set()


def connect(controller, answer=None, **kwargs):
    """A link that was welcomed, or what ``answer`` makes of it."""
    outcome = []

    def dial():
        try:
            outcome.append(Link.connect(controller.info, timeout=kwargs.pop("timeout", PATIENCE)))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=dial)
    thread.start()
    (answer or (lambda: controller.welcome(**kwargs)))()
    thread.join(PATIENCE)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def task(link, **kwargs):
    return m.Task(link.take_id(), m.Action.APPLY, b"", NONE, **kwargs)


def result(number, payload=b"value", **kwargs):
    return m.Result(number, m.Status.OK, payload, **kwargs)
