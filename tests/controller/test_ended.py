"""Tasks that ended, as records and on sheets: the same is said of them, whatever they were."""

from __future__ import annotations

from controller.test_recording import World
from enginery.net.segments import Pool
from enginery.store.sheets import Records, decode_contents
from enginery.wire import messages as m


def make_world(*arguments, **limits):
    """A world, and what it has its store write."""
    world, batches = World(*arguments, **limits), []
    world.recorder.keeper.write = batches.append
    return world, batches


def on_sheets(batches):
    found = {}
    for sheet in batches[0].sheets(batches[1:]):
        records = Records(sheet.facts)
        for record in records.whole(decode_contents(sheet.contents), list(range(len(records)))):
            found[record["msg_id"]] = record
        assert sheet.count == len(records) == len(list(sheet.entries()))
    return found


def plain(records):
    """Records whose buffers are bytes, as databases keep them."""
    return {
        msg_id: {
            key: list(map(bytes, value)) if key in {"buffers", "result_buffers"} else value
            for key, value in record.items()
        }
        for msg_id, record in records.items()
    }


def test_sheets_say_what_records_say(tmp_path):
    world, batches = make_world(str(tmp_path))
    pool = Pool(str(tmp_path), "e0")
    world.finish(*world.submit(*range(50)))
    world.recorder.collect(now_or_never=True)
    world.finish(*world.submit(50, options=m.Options(label="a", retries=2)), frames=[b"array", b"more"])
    world.finish(*world.submit(51, frames=[b"array"]), payload=b"value")
    world.finish(*world.submit(52), shared=[m.Segment(0, pool.put(memoryview(b"x" * 300_000)), 300_000)])
    (told,) = world.submit(53)
    world.hear(world.engine, m.Said([m.Output(told, "stdout", "hello\n"), m.Output(told, "display", "", b"data")]))
    world.finish(told)
    world.hear(
        world.engine,
        m.Done([m.Result(world.submit(54)[0], 1, b"", 0, 5.0, 6.0, m.Fault("remote", "ValueError", "no", "trace"))]),
    )
    base = world.client.number << m.CLIENT_SHIFT
    world.hear(world.client, m.Direct([m.Request([0], m.Task(base + 55, 1, b"", b"1 + 1"))]))
    world.finish(base + 55)
    (task,) = world.submit(56)
    world.hear(world.engine, m.Done([m.Result(task, m.Status.ABORTED, b"", fault=m.Fault("TaskAborted", "", ""))]))
    world.client = world.join("theirs")
    world.finish(*world.submit(0))
    world.recorder.collect(now_or_never=True)
    assert len(batches) == 3
    expected = plain({msg_id: record for batch in batches for msg_id, record in batch.records().items()})
    assert len(expected) == 58
    assert on_sheets(batches) == expected


def test_what_is_too_large_is_left_out_as_in_records():
    world, batches = make_world(size_limit=4000)
    world.finish(*world.submit(0, payload=bytes(900)), payload=bytes(1100))
    world.recorder.collect(now_or_never=True)
    (batch,) = batches
    (record,) = on_sheets([batch]).values()
    assert (record["buffers"], record["result_buffers"]) == ([bytes(900)], [])
    assert plain(batch.records()) == {"ours_0": record}
