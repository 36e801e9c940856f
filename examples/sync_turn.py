"""The same turn as in `async_turn.py` for programs without an event loop.

Run it with a server at hand (`make run`):

    python examples/sync_turn.py "Fix the failing test."
"""

from __future__ import annotations

import sys

import moorline


def decide(request: moorline.PermissionRequest) -> bool:
    """Allow edits and nothing else."""
    return request.tool_name in {"Edit", "Write"}


def main(prompt: str) -> None:
    """Ask a new agent and print its answer."""
    with moorline.Client() as client:
        result = client.run(prompt, on_permission=decide)
        print(result.text)
        print(f"{result.usage.output_tokens} tokens, ${result.usage.cost_usd:.4f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "What can you do?")
