"""Tests of `services.executor.channels.docker.container`."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from services.executor.channel import Launch
from services.executor.channels.docker import container
from services.executor.channels.docker.container import Owner
from services.executor.place import Place
from services.executor.workspaces import Workspaces
from tests.unit.executor.docker.engines import make_setting

PLACE = Workspaces(root=Path("/data")).place("abcdefgh")
LAUNCH = Launch(
    place=PLACE, tenant="t1", argv=("claude", "-p"), environment={"LANG": "ko_KR.UTF-8", "A": "b=c"}
)
OWN = Owner(uid=10_777, gid=10_777, shared=False)


def test_agent_gets_its_folders_and_nothing_else() -> None:
    """No other path of the host, no network, no rights, and a share of the machine."""
    setting = make_setting(instance="i1", version="0.1")
    made = container.configuration(LAUNCH, setting=setting, owner=OWN)
    host = made["HostConfig"]

    assert {
        "/data/abcdefgh/files": "/workspace",
        "/data/abcdefgh/state": "/state",
        "/data/abcdefgh/run": "/run/moorline",
    } == {mount["Source"]: mount["Target"] for mount in host["Mounts"]}
    assert "Binds" not in host
    assert ("none", True, False, ["ALL"], ["no-new-privileges"]) == (
        host["NetworkMode"],
        host["ReadonlyRootfs"],
        host["Privileged"],
        host["CapDrop"],
        host["SecurityOpt"],
    )
    assert 512 << 20 == host["Memory"] == host["MemorySwap"]
    assert (1_000_000_000, 256) == (host["NanoCpus"], host["PidsLimit"])
    assert ["/tmp"] == list(host["Tmpfs"])
    assert "10777:10777" == made["User"]
    assert ["claude", "-p"] == made["Cmd"]
    assert {
        "moorline.instance": "i1",
        "moorline.workspace": "abcdefgh",
        "moorline.tenant": "t1",
        "moorline.version": "0.1",
    } == made["Labels"]


def test_log_is_one_that_can_be_read_again() -> None:
    """Whatever the engine would take by itself, and the input outlives who writes to it."""
    made = container.configuration(LAUNCH, setting=make_setting(), owner=OWN)
    log = made["HostConfig"]["LogConfig"]

    assert ("json-file", str(container.LOG_LIMIT)) == (log["Type"], log["Config"]["max-size"])
    assert (True, False, False) == (made["OpenStdin"], made["StdinOnce"], made["Tty"])


@pytest.mark.parametrize(("shared", "processes"), [(False, "200"), (True, "+200")])
def test_environment_is_that_of_the_launch_and_the_containers_own(
    shared: bool, processes: str
) -> None:
    """The launch has the last word; a user shared with others gets a limit beyond theirs."""
    owner = replace(OWN, shared=shared)
    made = container.configuration(LAUNCH, setting=make_setting(), owner=owner)
    environment = dict(line.split("=", 1) for line in made["Env"])

    assert ("b=c", "ko_KR.UTF-8") == (environment["A"], environment["LANG"])
    assert processes == environment["MOORLINE_SHELL_PROCESSES"]
    assert "/usr/local/bin/moorline-shell" == environment["CLAUDE_CODE_SHELL_PREFIX"]
    assert "/tmp" == environment["TMPDIR"]


def test_instance_is_that_of_the_workspaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same after a restart, another one for another executor."""
    monkeypatch.chdir(tmp_path)

    assert container.instance_of(Path("data")) == container.instance_of(tmp_path / "data")
    assert container.instance_of(tmp_path / "data") != container.instance_of(tmp_path / "other")


@pytest.fixture
def root() -> None:
    """The test is about an executor that is root."""
    if os.geteuid() != 0:
        pytest.skip("this user is not root")


@pytest.mark.usefixtures("root")
async def test_agents_of_root_are_users_of_their_own(tmp_path: Path) -> None:
    """Each gets all that is in its folders, but not what links lead to."""
    place = await Workspaces(root=tmp_path).make("abcdefgh")
    (place.files / "a").mkdir()
    (place.files / "a" / "b").write_text("x")
    (tmp_path / "outside").write_text("x")
    (place.state / "link").symlink_to(tmp_path / "outside")
    owner = container.owner_of(place)
    container.give(place, owner)
    container.give(place, owner)
    given = (place.files, place.files / "a" / "b", place.state, place.state / "link", place.run)

    assert not owner.shared
    assert 10_001 <= owner.uid
    assert {owner.uid} == {path.lstat().st_uid for path in given}
    assert {0} == {path.stat().st_uid for path in (place.notes, tmp_path / "outside")}
    assert owner != container.owner_of(replace(place, workspace="hgfedcba"))


@pytest.mark.usefixtures("root")
async def test_folders_in_folders_are_given_however_deep(tmp_path: Path) -> None:
    """With one descriptor: an agent could use up all that the executor may have."""
    workspaces = Workspaces(root=tmp_path)
    place = await workspaces.make("abcdefgh")
    deep(place.files, 1500)
    (place.files / "x" / "a").mkdir()
    owner = container.owner_of(place)
    container.give(place, owner)
    found = {status.st_uid for status in (os.lstat(place.files / "x/a"), lowest(place.files))}
    await workspaces.delete("abcdefgh")

    assert {owner.uid} == found


def deep(root: Path, depth: int) -> None:
    """Make folders in each other."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("x", dir_fd=here)
        above, here = here, os.open("x", os.O_RDONLY, dir_fd=here)
        os.close(above)
    os.close(here)


def lowest(root: Path) -> os.stat_result:
    """Return what the last one of such folders is."""
    here = os.open(root, os.O_RDONLY)
    with contextlib.suppress(FileNotFoundError):
        while True:
            above, here = here, os.open("x", os.O_RDONLY, dir_fd=here)
            os.close(above)
    found = os.fstat(here)
    os.close(here)
    return found


async def test_agents_of_others_are_their_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is given to anybody, because only root can."""
    place: Place = await Workspaces(root=tmp_path).make("abcdefgh")
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 99)
    owner = container.owner_of(place)
    container.give(place, owner)

    assert Owner(uid=1234, gid=99, shared=True) == owner
    assert place.files.stat().st_uid == os.getuid()
