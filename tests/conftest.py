"""Fixtures: the backend under test, and the two optimizers."""

import contextlib
import fcntl
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Waiting threads sleep: spinning ones slow the suite down tenfold where another process shares the
# cores. Read once, when torch loads its OpenMP library.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read once, when triton is imported

import pytest

import kernels.emulation.backend
from parity.targets import GPU, REQUIRED, TARGETS, Target

if not GPU:
    kernels.emulation.backend.register()

try:
    from hypothesis import HealthCheck, settings
except ImportError:
    pass  # the tests that need it are skipped
else:
    # Generated tests: the same modest number of examples each time, or, asked for by `pytest
    # --hypothesis-profile=nightly`, many new ones.
    settings.register_profile(
        "ci",
        max_examples=300,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],  # ours are constants
    )
    settings.register_profile(
        "nightly", settings.get_profile("ci"), max_examples=3_000, derandomize=False
    )
    settings.load_profile("ci")


@contextlib.contextmanager
def locked(path: Path, how: int) -> Generator[None]:
    """Hold a file's lock, shared or not."""
    with path.open("w") as file:
        fcntl.flock(file, how)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Run a test marked `serial` while no other worker of pytest-xdist runs one."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    folder = item.config.rootpath / "build"
    folder.mkdir(exist_ok=True)
    alone = item.get_closest_marker("serial") is not None
    with contextlib.ExitStack() as held:
        # A worker that waits for its turn holds a second lock, so that no other overtakes it.
        with locked(folder / "tests-door.lock", fcntl.LOCK_EX):
            how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
            held.enter_context(locked(folder / "tests-room.lock", how))
        return (yield)


@dataclass(frozen=True)
class Kind:
    """AdamP or SGDP.

    Attributes:
        name: the official class's name.
        options: what is passed everywhere unless a test says otherwise.
    """

    name: str
    options: dict[str, Any]

    def make(self, params: Any, backend: Target | None = None, **options: Any) -> Any:
        """Build our optimizer on a backend."""
        import adamp_fused

        cls = getattr(adamp_fused, f"Fused{self.name}")
        return cls(params, backend=backend and backend.name, **(self.options | options))

    def official(self, params: Any, **options: Any) -> Any:
        """Build the official package's optimizer, or skip."""
        adamp = pytest.importorskip("adamp", reason="the official package is not installed")
        return getattr(adamp, self.name)(params, **(self.options | options))


KINDS = (Kind("AdamP", {"lr": 1e-2}), Kind("SGDP", {"lr": 1e-2, "momentum": 0.9}))


@pytest.fixture(params=TARGETS, ids=lambda target: target.label)
def backend(request: pytest.FixtureRequest) -> Target:
    """Each backend in turn; skipped with its own reason where it cannot run."""
    target: Target = request.param
    reason = target.unavailable()
    if reason and target.name in REQUIRED:
        pytest.fail(f"{target.name} is required here: {reason}")
    if reason:
        pytest.skip(reason)
    return target


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each optimizer in turn."""
    return request.param


@pytest.fixture
def threads() -> Any:
    """Let a test change the number of threads, and put it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
