"""Tests of `services.executor.book`: a book that is written anew."""

from __future__ import annotations

import pytest

from services.chassis.failures import Failure
from services.executor.book import ITEMS_LIMIT, Book
from tests.unit.executor.fakes import follow
from tests.unit.executor.test_book import end, message, take, write


def test_adopted_book_tells_nothing_before_it_has_come_to_where_its_reader_is() -> None:
    """Not even text: it belongs to what the reader knows already."""
    book = Book(adopted=True)
    cursor = follow(book, after=2)

    write(book, "b1", "one")
    early = take(cursor)
    book.append(message("b1"))
    between = take(cursor)
    book.append(message("b2"))
    write(book, "b3", "three")
    there = take(cursor)
    book.append(message("b3"))

    assert ([], False) == early == between
    assert (["b3=three"], False) == there
    assert (["#3"], False) == take(cursor)


def test_adopted_book_that_ends_early_goes_on_behind_what_is_known() -> None:
    """No reader may hear a number twice; who comes later is told the same."""
    book = Book(adopted=True)
    cursor = follow(book, after=4)
    book.append(message("b1"))
    book.append(end())

    assert ["#5"] == take(cursor)[0]
    assert cursor.done
    assert ["#5"] == take(follow(book, after=4))[0]
    with pytest.raises(Failure):
        follow(book, after=6)


@pytest.mark.parametrize("acknowledges", [False, True])
def test_adopted_book_is_not_full_before_its_reader_is_there(acknowledges: bool) -> None:
    """Nobody could acknowledge what it has not heard."""
    book = Book(adopted=True)
    unheard = book.full
    follow(book, after=2 * ITEMS_LIMIT)
    if acknowledges:
        book.acknowledge(ITEMS_LIMIT)
    for number in range(2 * ITEMS_LIMIT - 1):
        book.append(message(f"b{number}"))
    behind = book.full
    book.append(message("last"))
    book.acknowledge(1)

    assert not unheard
    assert not behind
    assert book.full
    assert book.read(ITEMS_LIMIT + 1) is not None
    assert acknowledges == (book.read(ITEMS_LIMIT) is None)
