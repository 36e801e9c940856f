"""Reads lists that come in pages.

Does not know what is listed.
"""

from __future__ import annotations

from moorline.calls import Json
from moorline.connection import Connection

_PAGE = 200


async def read_pages(
    connection: Connection, call: str, request: Json, member: str, limit: int | None
) -> list[Json]:
    """Read page after page of a list.

    Args:
        connection: Where to ask.
        call: Member of `gateway.v1.ClientFrame`.
        request: Its JSON without the page.
        member: Name of the list in the response.
        limit: At most this many; None for all.
    """
    found: list[Json] = []
    token = ""
    while limit is None or len(found) < limit:
        size = _PAGE if limit is None else min(_PAGE, limit - len(found))
        reply = await connection.call(call, {**request, "pageSize": size, "pageToken": token})
        found += reply.get(member, ())
        token = reply.get("nextPageToken", "")
        if not token:
            break
    return found
