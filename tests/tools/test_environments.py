"""How environments outside the repository are made; what goes into them takes minutes."""

import shutil
from fcntl import LOCK_EX, LOCK_NB
from pathlib import Path

import pytest

import environments


def test_pinned() -> None:
    """The packages that are named, as pinned, and nothing else."""
    text = "# tools\nmypy==1\nninja==2\npytest-x==3\npytest==4; python_version > '3'\nwheel==5"
    wanted = ["ninja==2", "pytest==4; python_version > '3'"]
    assert environments.pinned(text, ("ninja", "pytest")) == wanted
    with pytest.raises(SystemExit, match="no version of numpy"):
        environments.pinned(text, ("ninja", "numpy"))


def test_interrupted_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment counts only once it is complete, and makes way for the next."""
    fails_at: list[str] = ["pip"]
    ran: list[str] = []

    def run(command: list[object], check: bool) -> None:
        ran.append(str(command[2]))
        if command[2] in fails_at:
            raise KeyboardInterrupt
        if command[2] == "venv":
            Path(str(command[-1])).mkdir()

    def prepare(torch: str) -> Path:
        return environments.prepare(tmp_path, ([torch], ["ninja==2"]), gigabytes=0)

    monkeypatch.setattr(environments.subprocess, "run", run)
    with pytest.raises(KeyboardInterrupt):
        prepare("torch==1")
    fails_at.clear()
    python = prepare("torch==1")  # mkdir fails unless the rest was removed
    assert ran == ["venv", "pip", "venv", "pip", "pip"]
    assert prepare("torch==1") == python and len(ran) == 5
    assert prepare("torch==0") != python
    assert len(list(tmp_path.glob("env-*"))) == 1


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little space is an error with a remedy, before anything is installed."""
    usage = shutil.disk_usage(tmp_path)._replace(free=7_900_000_000)
    monkeypatch.setattr(environments.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(SystemExit, match=r"7\.9 GB free.*8 GB.*XDG_CACHE_HOME"):
        environments.prepare(tmp_path, (["torch"],), gigabytes=8)
    assert not list(tmp_path.iterdir())


def test_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made below the cache, and is nobody else's meanwhile."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with environments.own_folder("name") as folder:
        assert folder == tmp_path / "adamp_fused" / "name" and folder.is_dir()
        monkeypatch.setattr(environments.fcntl, "LOCK_EX", LOCK_EX | LOCK_NB)
        with pytest.raises(BlockingIOError), environments.own_folder("name"):
            pass
    with environments.own_folder("name"):
        pass
