"""What an administrator is told of the platform that `make run` starts."""

from __future__ import annotations

from tests.system.wire import Frame, Wire


def found(response: Frame) -> dict[str, str]:
    """What was found, in short."""
    return {
        check["subject"].removeprefix("SUBJECT_"): check["state"].removeprefix("STATE_")
        for check in response["checks"]
    }


async def test_everything_is_looked_at_and_told_at_once(wire: Wire) -> None:
    """Store, session and executor work; what nobody has chosen is no failure."""
    response = await wire.call("diagnose", {})

    states = found(response)
    assert {"SESSION": "GOOD", "STORE": "GOOD", "EXECUTOR": "GOOD", "DISK": "GOOD"}.items() <= (
        states.items()
    )
    assert "FAILED" not in states.values()
    assert {"ENGINE", "IMAGE", "PROGRAM", "KEY", "UPSTREAM"} <= states.keys()
    assert all(check["address"] for check in response["checks"])
    assert all(check["detail"] for check in response["checks"])
    wrong = [check for check in response["checks"] if check["state"] == "STATE_WARNING"]
    assert all(check["remedy"] for check in wrong)
