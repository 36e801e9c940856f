"""Puts executions on feeds. Does not know who asked for it."""

from __future__ import annotations

import functools
from typing import TypeAlias

from moorline.executor.v1 import feed_pb2
from services.chassis.feed import Feed, Feeds
from services.executor.book import Book

ExecutionFeeds: TypeAlias = Feeds[feed_pb2.SubscribedExecution, feed_pb2.OpenFeedResponse]


def add(
    feed: Feed[feed_pb2.SubscribedExecution], subscription: int, book: Book, *, after: int
) -> None:
    """Let a feed follow a book.

    Args:
        feed: The feed.
        subscription: A new number, at least 1.
        book: What is followed.
        after: Number of the last item that is known; 0 for none.

    Raises:
        Failure: SEQUENCE_UNKNOWN; FIELD_INVALID, FEED_UNKNOWN as `Feed.add`.
    """
    mark = functools.partial(feed.mark, subscription)
    feed.add(subscription, book.follow(after=after, mark=mark))
