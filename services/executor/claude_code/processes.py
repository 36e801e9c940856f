"""Makes Claude Code processes for executions. Does not know what is said to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from services.chassis.tasks import Tasks
from services.executor.agent_process import Work
from services.executor.backend import Backend, Link
from services.executor.channel import Channel, Launch
from services.executor.claude_code import frames, transcripts
from services.executor.claude_code.belongings import Belongings
from services.executor.claude_code.dialogue import Dialogue
from services.executor.claude_code.patience import Patience
from services.executor.claude_code.process import ClaudeCode
from services.executor.place import Place


class ClaudeCodeProcesses:
    """Makes processes for executions; the only place that turns `Work` into a command line.

    Args:
        default_model: Model that answers when an execution names none; empty for the CLI's choice.
        fallback_model: The model that goes on when the first one is overloaded; empty for none.
        retries: Repetitions of a request that the provider failed to answer.
        patience: How long a process may take for what it owes.
        tasks: Owner of the processes' tasks.
    """

    def __init__(
        self,
        *,
        default_model: str,
        fallback_model: str,
        retries: int,
        patience: Patience,
        tasks: Tasks,
    ) -> None:
        self._default_model = default_model
        self._fallback_model = fallback_model
        self._retries = retries
        self._patience = patience
        self._tasks = tasks

    def make(
        self, work: Work, backend: Backend, place: Place, environment: Mapping[str, str]
    ) -> ClaudeCode:
        """Return a process that can take the execution's turn once it is open.

        Args:
            work: The execution.
            backend: Where it is to run.
            place: What the agent has; exists.
            environment: How the process reaches the model.

        Raises:
            Failure: BACKEND_UNAVAILABLE.
        """
        view = backend.view(place)
        if _is_lost(work, backend, place):
            work = replace(work, resume_from="")
        argv = frames.command_line(
            directory=view.files,
            terms=self._terms(work),
            mode=frames.mode_of(work.permission_mode),
            model=work.model or self._default_model,
            session_id=frames.stable_uuid(f"session/{work.execution_id}"),
            resume=work.resume_from,
        )
        launch = Launch(
            place=place,
            tenant=work.tenant,
            argv=argv,
            environment={**frames.environment(view, retries=self._retries), **environment},
        )
        return self._process(work, backend, place, backend.channel(launch))

    def survivor(self, work: Work, backend: Backend, place: Place) -> ClaudeCode:
        """Return a process that outlived its executor, for `ClaudeCode.adopt`.

        Args:
            work: The execution that it was running.
            backend: Where it runs.
            place: What the agent has.
        """
        return self._process(work, backend, place, backend.adopt(place))

    def _process(self, work: Work, backend: Backend, place: Place, channel: Channel) -> ClaudeCode:
        view = backend.view(place)
        belongings = None
        if backend.link is not Link.NONE:
            belongings = Belongings(
                place=place,
                view=view,
                conversation=work.resume_from,
                last_entry=work.last_entry,
            )
        return ClaudeCode(
            channel=channel,
            dialogue=Dialogue(
                conversation=work.resume_from,
                mode=frames.mode_of(work.permission_mode),
                model=work.model or self._default_model or frames.DEFAULT_MODEL,
                last_entry=work.last_entry,
                files=place.files,
                seen_as=view.files,
            ),
            terms=self._terms(work),
            default_model=self._default_model,
            belongings=belongings,
            patience=self._patience,
            tasks=self._tasks,
        )

    def _terms(self, work: Work) -> frames.Terms:
        return frames.Terms(
            instructions=work.instructions,
            rules=work.allowed_rules,
            max_steps=work.max_steps,
            fallback_model=self._fallback_model,
        )


def _is_lost(work: Work, backend: Backend, place: Place) -> bool:
    """Tell whether a conversation was cut off so soon that there is nothing to go on with."""
    if backend.link is Link.NONE or not work.resume_from or work.last_entry:
        return False
    return not transcripts.is_begun(place, backend.view(place), work.resume_from)
