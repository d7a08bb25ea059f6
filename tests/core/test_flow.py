"""Output on its way to a client that does not read."""

from __future__ import annotations

from enginery.core.flow import ASK_EVERY, ENOUGH, MOST, Flow
from enginery.wire.messages import Output

CHUNK = "x" * ASK_EVERY


def fill(flow, task=1):
    questions = []
    while (passed := flow.passed(Output(task, "stdout", CHUNK))) is not None and passed.text == CHUNK:
        if number := flow.question():
            questions.append(number)
    return passed, questions


def test_a_client_is_asked_now_and_then():
    flow = Flow()
    assert flow.passed(Output(1, "stdout", "x")).text == "x"
    assert flow.question() == 0
    flow.passed(Output(1, "stdout", CHUNK))
    assert flow.question() > ASK_EVERY
    assert flow.question() == 0


def test_who_reads_gets_everything():
    flow = Flow()
    for _ in range(5 * MOST // ASK_EVERY):
        assert flow.passed(Output(1, "stdout", CHUNK)).text == CHUNK
        flow.heard(flow.question())


def test_who_does_not_is_told_once_for_each_task():
    flow = Flow()
    notice, _ = fill(flow)
    assert (notice.task, notice.kind) == (1, "stderr")
    assert "from here on output was dropped" in notice.text
    assert flow.passed(Output(1, "display", data=b"x")) is None
    assert flow.passed(Output(2, "stdout", "x")).task == 2
    assert flow.passed(Output(2, "stdout", "x")) is None


def test_results_and_errors_pass_all_the_same():
    flow = Flow()
    fill(flow)
    for kind in ("result", "error"):
        assert flow.passed(Output(1, kind, data=b"x")).kind == kind


def test_it_goes_on_when_enough_was_read():
    flow = Flow()
    _, questions = fill(flow)
    flow.heard(questions[-1] - ENOUGH - ASK_EVERY)
    assert flow.passed(Output(1, "stdout", "x")) is None
    flow.heard(questions[-1])
    assert flow.passed(Output(1, "stdout", "x")).text == "x"
    assert fill(flow)[0].task == 1  # told anew


def test_answers_to_questions_that_were_not_asked_mean_nothing():
    flow = Flow()
    fill(flow)
    flow.heard(1 << 60)
    assert flow.passed(Output(1, "stdout", "x")) is None
