"""An engine that runs nothing: it joins, answers, and leaves with the controller. For clusters of hundreds."""

from __future__ import annotations

import selectors
import sys
import uuid
from pathlib import Path

from enginery.net import connection_file, profile_paths
from enginery.net.channel import ChannelClosed
from enginery.net.sockets import dial, key_for
from enginery.wire import messages as m
from enginery.wire.serialize import NONE


def main() -> None:
    told = dict(each.lstrip("-").split("=", 1) for each in sys.argv[1:] if "=" in each)
    path = profile_paths.connection_path(Path(told["profile-dir"]), "engine", told["cluster-id"])
    info = connection_file.load(path)
    channel = dial(info)
    hello = m.EngineHello(m.VERSION, uuid.uuid4().hex, 0, "light")
    hello.key = key_for(info, channel)
    channel.send(m.encode(hello), [])
    selector = selectors.DefaultSelector()
    selector.register(channel.fileno(), selectors.EVENT_READ)
    while True:
        selector.select(2.0)
        for header, _ in channel.receive():
            answer(channel, m.decode_to_engine(header))
        channel.send(m.encode(m.Ping(0)), [])


def answer(channel, message) -> None:
    if type(message) is m.Assign:
        results = [m.Result(task.id, m.Status.OK, NONE, 0, 0.0, 1e-6) for task in message.tasks]
        channel.send(m.encode(m.Done(results)), [])
    elif type(message) is m.Ping:
        channel.send(m.encode(m.Pong(message.number)), [])
    elif type(message) is m.Return:
        channel.send(m.encode(m.Returned([])), [])
    elif type(message) is m.Bye:
        raise ChannelClosed


if __name__ == "__main__":
    try:
        main()
    except ChannelClosed:
        pass
