"""How errors read that several engines made: grouped, and counted."""

from __future__ import annotations

from enginery.error_texts import general, grouped, headline, id_ranges, left_out, render

TEXT = "Traceback (most recent call last):\n  File 'x', line 1, in f\n    1 / 0\nZeroDivisionError: division by zero\n"


def entry(engine=0, evalue="division by zero", text=TEXT):
    return "ZeroDivisionError", evalue, text, {"engine_id": engine, "method": "apply"}


def told(entries):
    (group,) = grouped(entries)
    ename, evalue, _, info = group[0]
    return headline(ename, evalue, info, group)


def test_engines_that_said_the_same_are_named_once():
    entries = [entry(engine) for engine in range(8)]
    assert told(entries) == "[0-7:apply]: ZeroDivisionError: division by zero (engines 0-7 said the same)"
    (group,) = grouped(entries)
    assert render(*group[0], who=group) == ["[0-7:apply] (engines 0-7 said the same)", *TEXT.splitlines()]


def test_addresses_of_objects_do_not_make_a_difference():
    entries = [entry(engine, evalue=f"<object at 0x7f00{engine:08x}>") for engine in range(4)]
    assert "engines 0-3 said the same" in told(entries)
    assert general("<function f at 0x7f0012345678>") == "<function f at …>"


def test_what_differs_stands_apart_in_the_order_of_first_appearance():
    entries = [entry(0, "a"), entry(1, "b"), entry(2, "a")]
    assert [[each[3]["engine_id"] for each in group] for group in grouped(entries)] == [[0, 2], [1]]


def test_gaps_in_the_engines_are_shown():
    assert "engines 0-2,5,7-8 said the same" in told([entry(engine) for engine in (0, 1, 2, 5, 7, 8)])
    assert id_ranges([8, 7, 0, 1, 2, 5]) == "0-2,5,7-8"
    assert id_ranges([]) == ""


def test_several_tasks_of_one_engine_are_counted():
    assert "3 tasks on engine 2 said the same" in told([entry(2)] * 3)


def test_what_is_left_out_is_counted():
    assert left_out([]) == []
    assert left_out([[entry()] * 2, [entry()]])[0] == ".... 3 more exceptions ..."


def test_without_a_traceback_there_is_the_headline():
    assert render(*entry(3, text="")) == ["[3:apply]: ZeroDivisionError: division by zero"]
