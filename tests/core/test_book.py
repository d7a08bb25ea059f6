"""Side records are made when needed and go with their task."""

from __future__ import annotations

from enginery.core.book import Book
from enginery.wire.messages import Task


def test_a_side_record_is_made_once():
    book = Book()
    assert book.rare_of(1) is book.rare_of(1)
    assert not book.rare_of(1).excluded


def test_a_task_takes_everything_with_it():
    book = Book()
    book.tasks[1] = book.waiting[1] = Task(1, 0, b"", b"")
    book.frames[1] = [b"x"]
    book.rare_of(1)
    book.remove(1)
    assert not any([book.tasks, book.waiting, book.frames, book.rare])
