"""Tests of `services.executor.model_proxy.prices`."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.executor.model_proxy.prices import PICOS, PricesError, Told, load

PRICES = load("")


def micros(model: str, **told: int | bool | str) -> float:
    """Return what a request to a model costs, in micro-dollars."""
    return PRICES.of(model).cost(Told(model=model, **told)) / PICOS  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"read": 1_000_000}, 4_000_000),
        ({"written": 1}, 20),
        ({"cache_written": 1}, 5),
        ({"cache_written": 3, "cache_written_hour": 2}, 5 + 2 * 8),
        ({"cache_read": 1}, 0.2),
        ({"read": 10, "fast": True}, 80),
        ({"read": 10, "region": "us"}, 44),
        ({"read": 10, "region": "eu"}, 40),
        ({"read": 10, "region": "us", "searches": 2}, 44 + 20_000),
    ],
)
def test_cost_is_the_sum_of_its_parts(told: dict[str, int | bool | str], expected: float) -> None:
    """Each kind of token, and what is dearer or comes on top."""
    assert expected == micros("claude-opus-5-5", **told)


def test_long_requests_may_be_dearer() -> None:
    """From one token more, and all of it."""
    short = micros("claude-haiku-5-5", read=1000, cache_read=99_000, written=10)
    longer = micros("claude-haiku-5-5", read=1000, cache_read=99_001, written=10)

    assert 1095 == short
    assert round((short + 0.01) * 5, 6) == longer


def test_longest_name_that_fits_counts() -> None:
    """However the name is dressed up."""
    assert micros("claude-opus-5-20260101", read=1) == 5
    assert micros("us.anthropic.claude-haiku-4-5-20251001-v1:0", read=1) == 1
    assert micros("Claude-Opus-5-5", read=1) == 4


def test_unknown_model_costs_as_much_as_the_dearest() -> None:
    """No budget is passed because nobody knows a price."""
    assert micros("somebody-elses", read=1, written=1) == 90
    assert micros("claude-opus-4-20250514", read=1, written=1) == 90


def test_names_of_models_fill_no_memory() -> None:
    """Agents may call models what they like."""
    for number in range(3000):
        PRICES.of(f"model-{number}")

    assert len(PRICES._found) <= 1001


def test_file_takes_the_place_of_what_is_built_in(tmp_path: Path) -> None:
    """What it does not say follows from the input's price; other models stay."""
    file = tmp_path / "prices.json"
    file.write_text(
        '{"Claude-Opus-5-5": {"input": 1, "output": 2, "cache_read": 0.05},'
        ' "mine": {"input": 0.5, "output": 100}}'
    )
    prices = load(str(file))
    all_kinds = Told(read=1, written=1, cache_read=100, cache_written=2, cache_written_hour=1)

    assert 1 + 2 + 5 + 1.25 + 2 == prices.of("claude-opus-5-5").cost(all_kinds) / PICOS
    assert 5 == prices.of("claude-opus-5").cost(Told(read=1)) / PICOS
    assert 100 == prices.of("any").cost(Told(written=1)) / PICOS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        ('{"m": {"input": 1}}', "missing price output"),
        ('{"m": {"input": 1, "output": 2, "sugar": 3}}', "unknown price sugar"),
        ('{"m": {"input": 1, "output": -2}}', "less than nothing"),
        ('{"m": {"input": 1, "output": "x"}}', "cannot be used"),
    ],
)
def test_unusable_file_is_told(tmp_path: Path, text: str | None, words: str) -> None:
    """The operator learns which file, and why."""
    file = tmp_path / "prices.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(PricesError, match=words) as caught:
        load(str(file))

    assert str(file) in str(caught.value)
