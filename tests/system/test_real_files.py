"""Files of agents whose programs are real: they make what they want, and it leads nowhere."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import moorline
from tests.system import test_real_agents

pytestmark = test_real_agents.pytestmark

upstream = test_real_agents.upstream
stack = test_real_agents.stack
client = test_real_agents.client

TRAPS = (
    "ln -s /etc/passwd passwd; ln -s / host; ln -s ../../ up; ln -s ../state state; mkfifo pipe;"
    " mkdir real; echo mine >real/file; ln -s real alias"
)


def test_links_that_an_agent_makes_lead_nowhere(client: moorline.Client, tmp_path: Path) -> None:
    """They are listed, and neither read, written, packed nor deleted through."""
    agent = client.agents.create(permission_mode=moorline.PermissionMode.ACCEPT_ALL)
    result = agent.send(f"/sim bash {TRAPS}").wait()
    assert result.finished, result.outcome
    kinds = {file.path: file.kind for file in agent.files.list()}

    assert {"alias", "host", "passwd", "state", "up"} == {
        path for path, kind in kinds.items() if kind is moorline.FileKind.LINK
    }
    for path in ("passwd", "host/etc/passwd", "up/x", "state/claude", "alias/file", "pipe"):
        with pytest.raises(moorline.ConflictError):
            agent.files.read(path)
        with pytest.raises(moorline.ConflictError):
            agent.files.write(path, "x")
    with pytest.raises(moorline.ConflictError):
        agent.files.delete("host/etc/passwd")
    with pytest.raises(moorline.ConflictError):
        agent.files.list("host")
    with zipfile.ZipFile(agent.files.archive(tmp_path)) as archive:
        assert {"real/", "real/file"} == set(archive.namelist())
    changes = {change.path: change for change in agent.files.diff().changes}
    assert "+mine" in changes["real/file"].diff
    assert not changes["passwd"].diff
    agent.files.delete("host")
    assert Path("/etc/passwd").exists()


def test_an_agent_goes_on_with_what_it_is_given(client: moorline.Client) -> None:
    """Before it has ever run, and while it is there; what it makes is the user's to delete."""
    agent = client.agents.create(permission_mode=moorline.PermissionMode.ACCEPT_ALL)
    agent.files.write("new/given.txt", "one\n")
    first = agent.send("/sim bash echo two >>new/given.txt; echo own >new/own.txt").wait()
    agent.files.write("new/more.sh", "echo three >>new/given.txt\n", executable=True)
    second = agent.send("/sim bash sh new/more.sh; rm new/more.sh; chmod 700 new").wait()

    assert first.finished, first.outcome
    assert second.finished, second.outcome
    assert b"one\ntwo\nthree\n" == agent.files.read("new/given.txt")
    assert ["new/given.txt", "new/own.txt"] == [file.path for file in agent.files.list("new")]
    assert ["new/given.txt", "new/more.sh"] == [one.path for one in agent.files.diff().changes]
    agent.files.delete("new")
    assert () == agent.files.list()
