"""What every store must do with documents larger than most databases take."""

from __future__ import annotations

import asyncio

import pytest

from services.session.store import Create, Store, StoreConflict, Update
from tests.contract.store.looking import current


class TestLargeDocuments:
    async def test_an_update_makes_them_large_and_small(self, store: Store, root: str) -> None:
        """Whatever the size before, only the new fields are there."""
        path = f"{root}/things/a"
        committed = await store.commit([Create(path, {"text": ""})])
        for size in (500_000, 100, 1_000_000, 300_000, 0):
            fields = {"text": "x" * size}

            committed = await store.commit([Update(path, fields, committed.versions[0])])

            document = await current(store, path)
            assert fields == document.fields
            assert committed.versions[0] == document.version

    async def test_they_are_read_among_others(self, store: Store, root: str) -> None:
        """A collection's order and fields are the same whatever their size."""
        sizes = {"a": 10, "b": 300_000, "c": 700_000, "d": 0}
        for name, size in sizes.items():
            await store.commit([Create(f"{root}/things/{name}", {"text": "가" * (size // 3)})])

        forward = await store.read(f"{root}/things")
        backward = await store.read(f"{root}/things", reverse=True)

        assert list(sizes) == [document.id for document in forward]
        assert [size // 3 for size in sizes.values()] == [
            len(document.fields["text"]) for document in forward
        ]
        assert [(d.id, d.fields, d.version) for d in forward] == [
            (d.id, d.fields, d.version) for d in reversed(backward)
        ]

    async def test_a_refused_update_leaves_them_whole(self, store: Store, root: str) -> None:
        """No part of a commit that did not happen is ever read."""
        path = f"{root}/things/a"
        created = await store.commit([Create(path, {"text": "a" * 600_000})])
        await store.commit([Update(path, {"text": "b" * 600_000}, created.versions[0])])

        with pytest.raises(StoreConflict):
            await store.commit([Update(path, {"text": "c" * 900_000}, created.versions[0])])
        with pytest.raises(StoreConflict):
            await store.commit([Create(path, {"text": "d" * 900_000})])

        assert {"text": "b" * 600_000} == (await current(store, path)).fields

    async def test_no_read_mixes_two_writes(self, store: Store, root: str) -> None:
        """A document read while it is written is as it was before or after."""
        path = f"{root}/things/a"
        committed = await store.commit([Create(path, {"text": "0" * 600_000})])
        seen: list[str] = []

        async def look() -> None:
            # Ten reads may all come before the first write is through.
            while len(seen) < 20 or len(set(seen)) < 3:
                texts = [(await current(store, path)).fields["text"]]
                texts += [
                    document.fields["text"] for document in await store.read(f"{root}/things")
                ]
                for text in texts:
                    assert text == text[0] * len(text)
                    seen.append(text[0])

        async with asyncio.TaskGroup() as group:
            looking = group.create_task(look())
            letter = 0
            while not looking.done():
                letter = (letter + 1) % 10
                fields = {"text": str(letter) * (600_000 if letter % 2 else 250_000)}
                committed = await store.commit([Update(path, fields, committed.versions[0])])
