"""How figures are shown."""

from __future__ import annotations

from tests.load.report import agent_rows, columns, growth_rows, markdown, ratio, terminal
from tests.unit.load.samples import figures, pair


def test_a_markdown_table_has_a_rule_below_its_header() -> None:
    """Every renderer of Markdown understands it."""
    assert markdown(("a", "b"), [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    """The first column is text, the others are figures."""
    assert columns(("goal", "x"), [["rate", "10"]]) == "goal   x\nrate  10\n"


def test_a_ratio_may_be_missing() -> None:
    """Not every figure has one of the monolith."""
    assert (ratio(2), ratio(None)) == ("2.00×", "")


def test_growth_has_one_row_for_each_number_of_users() -> None:
    """Ours and the monolith's figures stand in one row."""
    expected = [
        ["1,000", "40,000", "40 µs", "1.0 / 4.0 ms", "40,000", "20 µs", "0.1 / 2.0 ms"],
    ]

    assert expected == growth_rows([pair(1000)])


def test_agents_have_one_row_for_each_backend() -> None:
    """What cannot be told of a backend is left empty."""
    simulation, docker = agent_rows(figures().agents)

    assert ["simulation", "", "", ""] == [simulation[n] for n in (0, 3, 5, 7)]
    assert ["docker", "50 ms", "128 MiB", "8", "12,000"] == [docker[n] for n in (0, 3, 5, 7, 8)]


def test_the_terminal_shows_every_measure() -> None:
    """A reader sees goals, streams, memory, turns, replay and the machine."""
    text = terminal(figures())

    for part in (
        "met",
        "turns × 40/s",
        "idle users",
        "acknowledged",
        "replay of",
        "2 cores",
        "$0.0331",
    ):
        assert part in text
    assert "NOT MET" not in text
    assert "not measured" not in terminal(figures(saturated=None, paced=(), memory=(), shared=None))
