"""What Firestore's errors mean: which pass, which leave doubt, and what to do about the rest.

Does not know which call failed.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.api_core import exceptions

from services.chassis.failures import Failure
from services.session.store import unavailable

ApiError = exceptions.GoogleAPICallError

CONFLICTS = (
    exceptions.AlreadyExists,
    exceptions.FailedPrecondition,
    exceptions.NotFound,
)
"""What a commit fails with when a condition does not hold, among other causes."""

_PASSING = (
    exceptions.Aborted,
    exceptions.Cancelled,
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
    exceptions.ServiceUnavailable,
    exceptions.Unknown,
)
# The words that tell apart what one status stands for; Firestore has no others.
_PLUGIN = "from plugin failed"  # The plugin renews the credentials.
_NOT_SENT = ("failed to connect to all addresses", _PLUGIN)
_NO_DATABASE = ("does not exist for project", "datastore mode", "datastore-mode")


@dataclass(frozen=True, slots=True)
class Target:
    """Which database it is, and as whom it is used.

    Attributes:
        host: Address of the service, or of an emulator.
        project: Google Cloud project.
        database: Id of the database.
        account: Who the calls are made as; empty when that is not known.
        emulated: True for an emulator.
    """

    host: str
    project: str
    database: str
    account: str
    emulated: bool

    @property
    def name(self) -> str:
        """Resource name of the database."""
        return f"projects/{self.project}/databases/{self.database}"


def passes(error: ApiError) -> bool:
    """Tell whether the same call may succeed a moment later."""
    return isinstance(error, _PASSING)


def may_have_happened(error: ApiError) -> bool:
    """Tell whether a commit that failed so may have been made, or may still be."""
    # Aborted says that it lost against another one; without a connection nothing was sent.
    return not isinstance(error, exceptions.Aborted) and not _says(error, _NOT_SENT)


def is_condition(error: ApiError) -> bool:
    """Tell whether one of `CONFLICTS` is about a condition, not about the database."""
    return not _says(error, _NO_DATABASE)


def advice(error: ApiError, target: Target) -> str:
    """Return one sentence for the operator: what is wrong and what to do."""
    project, account = target.project, target.account or "the account of this process"
    kind = type(error).__name__
    match error:
        case exceptions.PermissionDenied() if _says(error, ("has not been used", "disabled")):
            sentence = (
                f"Project {project} has the Firestore API switched off: enable"
                " firestore.googleapis.com there, or correct GOOGLE_CLOUD_PROJECT."
            )
        case exceptions.PermissionDenied():
            sentence = (
                f"Firestore refuses {account} (403): grant it the role roles/datastore.user on"
                f" project {project}, or correct GOOGLE_CLOUD_PROJECT."
            )
        case exceptions.Unauthenticated():
            sentence = credentials_advice("Google does not accept the credentials")
        case exceptions.NotFound() | exceptions.FailedPrecondition():
            sentence = (
                f"Project {project} has no database {target.database} in native mode: create it,"
                " or correct GOOGLE_CLOUD_PROJECT or MOORLINE_STORE."
            )
        case exceptions.ResourceExhausted():
            sentence = (
                f"Firestore's quota of project {project} is used up: raise it in the console,"
                " or wait until it is renewed."
            )
        case _ if _says(error, (_PLUGIN,)):
            sentence = credentials_advice("The Google credentials cannot be renewed")
        case _ if not passes(error):
            sentence = f"Firestore refuses a request ({kind}): please report this."
        case _ if target.emulated:
            sentence = (
                f"The Firestore emulator at {target.host} does not answer ({kind}): start it,"
                " or unset FIRESTORE_EMULATOR_HOST."
            )
        case _:
            sentence = (
                f"Firestore at {target.host} does not answer ({kind}): check that this machine"
                " reaches it by HTTPS."
            )
    return sentence


def credentials_advice(problem: str) -> str:
    """Return what to do about missing or bad credentials."""
    return (
        f"{problem}: run `gcloud auth application-default login`, or run as a service account,"
        " or set FIRESTORE_EMULATOR_HOST to use an emulator."
    )


def failure(error: ApiError) -> Failure:
    """Return what a caller is told; the operator hears `advice`."""
    # Only the kind: the text of an error may hold a user's, or name a machine.
    return unavailable(
        f"The store cannot be used ({type(error).__name__}). Try again after a second."
    )


def _says(error: ApiError, words: tuple[str, ...]) -> bool:
    message = (error.message or "").lower()
    return any(word in message for word in words)
