"""Tests of how Firestore's documents are cut into parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.session.stores.firestore_values import (
    PART_BYTES,
    instant,
    read_version,
    split,
    version_of,
)

TEXTS = st.lists(
    st.tuples(
        st.sampled_from(["x", "é", "가", "\U0001f600"]),
        st.integers(min_value=0, max_value=PART_BYTES // 2),
    ),
    max_size=4,
).map(lambda runs: "".join(character * count for character, count in runs))


@given(TEXTS)
def test_pieces_are_the_text(text: str) -> None:
    """None is too large, and none but a lone one is empty."""
    pieces = split(text.encode())

    assert text == "".join(pieces)
    assert all(len(piece.encode()) <= PART_BYTES for piece in pieces)
    assert [""] == pieces or all(pieces)


@given(
    seconds=st.integers(min_value=0, max_value=2**35),
    nanos=st.integers(min_value=0, max_value=999_999_999),
    parts=st.integers(min_value=0, max_value=20),
)
def test_a_version_reads_back(seconds: int, nanos: int, parts: int) -> None:
    """To the nanosecond, which is what a condition is compared by."""
    time, found = read_version(f"{seconds}.{nanos:09d}~{parts}")

    assert (seconds, nanos, parts) == (time.seconds, time.nanos, found)
    assert f"{seconds}.{nanos:09d}~{parts}" == version_of(time, parts)
    assert nanos // 1000 == instant(time).microsecond
