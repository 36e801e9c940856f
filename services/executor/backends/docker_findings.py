"""What can be found of a Docker engine, in words for who runs this. Does not look for it."""

from __future__ import annotations

from dataclasses import dataclass

from moorline.diagnosis.v1 import diagnosis_pb2


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at the engine has found.

    Attributes:
        unavailable: Why no agent can run, one English sentence; empty when one can.
        checks: The same for a diagnosis: the engine, and the image.
    """

    unavailable: str
    checks: tuple[diagnosis_pb2.Check, ...]

    @property
    def answers(self) -> bool:
        """Whether there is an engine that answers."""
        return self.checks[0].state == diagnosis_pb2.Check.STATE_GOOD


def no_engine(detail: str, remedy: str) -> Findings:
    """Return what is to be known when the engine cannot be used.

    Args:
        detail: What is the matter, without the final stop.
        remedy: What to do about it, one sentence.
    """
    unavailable = f"Docker not available: {detail}."
    return Findings(
        unavailable,
        (
            _engine(diagnosis_pb2.Check.STATE_FAILED, unavailable, remedy),
            _image(diagnosis_pb2.Check.STATE_UNUSED, "Without an engine there is no image."),
        ),
    )


def bad_address(host: str) -> Findings:
    """Return what is to be known when the engine's address cannot be one."""
    return no_engine(
        f"{host} is no address of an engine",
        "Set DOCKER_HOST to unix:///PATH or tcp://HOST:PORT, and restart the executor.",
    )


def no_image(engine: str, image: str) -> Findings:
    """Return what is to be known when only the image is missing.

    Args:
        engine: Version of the engine.
        image: Name of the image.
    """
    unavailable = f"Docker not available: the engine has no image {image}."
    return Findings(
        f"{unavailable} `make agent-image` builds it.",
        (
            _found(engine),
            _image(diagnosis_pb2.Check.STATE_FAILED, unavailable, "Run `make agent-image`."),
        ),
    )


def good(engine: str, image: str, *, version: str, expected: str) -> Findings:
    """Return what is to be known when agents can run.

    Args:
        engine: Version of the engine.
        image: Name of the image.
        version: Version of the agent's program in it; empty when it does not tell.
        expected: The version that it should be.
    """
    if version == expected:
        detail = f"Agents are made from {image}, with version {version} of their program."
        check = _image(diagnosis_pb2.Check.STATE_GOOD, detail)
    else:
        told = f"version {version}" if version else "no version that it tells"
        detail = f"Image {image} has {told} of the agent's program; {expected} is expected."
        check = _image(diagnosis_pb2.Check.STATE_WARNING, detail, "Run `make agent-image`.")
    return Findings("", (_found(engine), check))


def _found(version: str) -> diagnosis_pb2.Check:
    return _engine(diagnosis_pb2.Check.STATE_GOOD, f"A Docker engine {version} answers.")


def _engine(
    state: diagnosis_pb2.Check.State.ValueType, detail: str, remedy: str = ""
) -> diagnosis_pb2.Check:
    subject = diagnosis_pb2.Check.SUBJECT_ENGINE
    return diagnosis_pb2.Check(subject=subject, state=state, detail=detail, remedy=remedy)


def _image(
    state: diagnosis_pb2.Check.State.ValueType, detail: str, remedy: str = ""
) -> diagnosis_pb2.Check:
    subject = diagnosis_pb2.Check.SUBJECT_IMAGE
    return diagnosis_pb2.Check(subject=subject, state=state, detail=detail, remedy=remedy)


_OFF = "Switched off by DISABLE_DOCKER."

DISABLED = Findings(
    _OFF,
    (
        _engine(diagnosis_pb2.Check.STATE_UNUSED, _OFF),
        _image(diagnosis_pb2.Check.STATE_UNUSED, _OFF),
    ),
)
"""Nobody may look."""

NO_LIBRARY = no_engine(
    "the package aiodocker is not installed",
    "Install it into the executor's environment, `pip install aiodocker`, and restart it.",
)
"""Nobody can look."""
