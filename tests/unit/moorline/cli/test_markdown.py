"""Tests of growing Markdown."""

from __future__ import annotations

import pytest

from moorline.cli.markdown import GrowingMarkdown

TEXT = """# Title

A paragraph
of two lines.

- one
- two

- three

```python
code = 1

more = 2
```

| a | b |
|---|---|
| 1 | 2 |

Last words.
"""


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_blocks_are_finished_once_and_whole(step: int) -> None:
    """However the text is cut, nothing is lost, and no block is cut in two."""
    growing = GrowingMarkdown()
    parts = [growing.feed(TEXT[at : at + step]) for at in range(0, len(TEXT), step)]
    finished = [part for part in parts if part]
    rest = growing.finish()
    assert TEXT == "".join(finished) + rest
    assert rest.startswith("Last words.")
    assert "" == growing.tail
    if step == 1:
        assert [
            "# Title\n\n",
            "A paragraph\nof two lines.\n\n",
            "- one\n- two\n\n- three\n\n",
            "```python\ncode = 1\n\nmore = 2\n```\n\n",
        ] == finished[:4]


def test_half_a_line_finishes_nothing() -> None:
    """A line that is not over may still belong to the block before."""
    growing = GrowingMarkdown()
    assert "" == growing.feed("para\n#")
    assert "" == growing.feed("hash\n")
    assert "para\n#hash\n" == growing.finish()


def test_a_long_line_does_not_hold_up_the_block_before() -> None:
    """Once it is clear what a line begins, what stands before it is finished."""
    growing = GrowingMarkdown()
    assert "" == growing.feed("```\ncode\n```\n\nA long")
    assert "```\ncode\n```\n\n" == growing.feed(" paragraph")
    assert "" == growing.feed(" of one line")
    assert "A long paragraph of one line" == growing.tail
