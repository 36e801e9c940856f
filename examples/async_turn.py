"""One turn with the asynchronous client: text as it is written, permissions decided.

Run it with a server at hand (`make run`):

    python examples/async_turn.py "Fix the failing test."
"""

from __future__ import annotations

import asyncio
import sys

import moorline


async def main(prompt: str) -> None:
    """Ask a new agent, print what it writes, allow it to edit and nothing else."""
    async with moorline.AsyncClient() as client:
        agent = await client.agents.create(display_name="example")
        async with agent.run(prompt) as turn:
            async for event in turn:
                match event:
                    case moorline.TextDelta(text=text, thought=False):
                        print(text, end="", flush=True)
                    case moorline.Message():
                        print("\n")
                    case moorline.PermissionRequest(tool_name="Edit" | "Write"):
                        await event.allow()
                    case moorline.PermissionRequest():
                        await event.deny("This example edits files and does nothing else.")
        usage = turn.result_or_raise().usage
        print(f"{usage.output_tokens} tokens, ${usage.cost_usd:.4f}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "What can you do?"))
