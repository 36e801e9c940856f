"""The READMEs' figures are those of the file that `make bench` wrote."""

from __future__ import annotations

import pytest

from tests.load.figures import parse
from tests.load.readme import FIGURES, READMES, replaced, section
from tests.load.systems import ROOT


@pytest.mark.parametrize("name", READMES)
def test_a_readme_shows_the_figures_that_were_measured(name: str) -> None:
    """Nobody writes a figure by hand, and none is left behind by a new run."""
    text = (ROOT / name).read_text()

    shown = replaced(text, section(parse(FIGURES.read_bytes()), READMES[name]))

    assert shown == text
