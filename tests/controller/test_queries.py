"""Questions of clients and the answers they get."""

from __future__ import annotations

from random import Random

import pytest

from enginery.controller.queries import MOST, QUERIES, answer
from enginery.core.scheduler import Scheduler
from enginery.wire.messages import Query


def ask(name, **arguments):
    return answer(Scheduler(random=Random(0)), Query(7, name, arguments), 100.0)


def test_every_question_is_answered():
    assert ask("statistics").value["unfinished"] == 0
    assert ask("queue_status", targets=None, verbose=False).value == {"unassigned": 0}
    assert ask("why", tasks=[1, 2]).value == ["It has not come to the controller."] * 2
    assert ask("story", tasks=[1]).value == [["never came to the controller"]]
    assert ask("why", tasks=[]).number == 7


def test_an_unknown_question_names_those_there_are():
    found = ask("weather")
    assert found.value is None
    assert found.error == f"No question is named 'weather'; there are {', '.join(QUERIES)}."


@pytest.mark.parametrize("tasks", [None, 5, ["x"], {"a": 1}])
def test_arguments_that_make_no_sense(tasks):
    assert ask("why", tasks=tasks).error.startswith("why: the argument 'tasks' has to be a list of task ids")


def test_one_question_takes_so_much_of_the_controllers_time():
    assert len(ask("why", tasks=list(range(MOST + 50))).value) == MOST
