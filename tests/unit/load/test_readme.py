"""The READMEs' section of figures."""

from __future__ import annotations

import pytest

from tests.load.goals import judge
from tests.load.readme import BEGIN, END, KOREAN, READMES, replaced, section
from tests.unit.load.samples import figures


@pytest.mark.parametrize("name", READMES)
def test_a_section_shows_goals_growth_and_replay(name: str) -> None:
    """Both languages show the same figures."""
    text = section(figures(), READMES[name])

    for part in ("80,000/s", "2.00×", "1,000", "20 ms", "60.5 ms", "$0.0331", "$0.09"):
        assert part in text
    assert "$" not in section(figures(shared=None), READMES[name])


def test_every_goal_has_a_korean_name() -> None:
    """The Korean README falls back to English nowhere."""
    assert {verdict.name for verdict in judge(figures())} == set(KOREAN.names)


def test_a_section_is_put_between_the_markers() -> None:
    """Everything else stays, and a second time changes nothing."""
    text = f"a\n{BEGIN}old{END}\nb\n"

    once = replaced(text, "\nnew\n")

    assert f"a\n{BEGIN}\nnew\n{END}\nb\n" == once
    assert once == replaced(once, "\nnew\n")


def test_a_readme_without_markers_is_refused() -> None:
    """Figures are never dropped in silence."""
    with pytest.raises(ValueError, match="bench:begin"):
        replaced("text", "new")
