"""Fixtures: the backend under test, and the two optimizers."""

import os
from dataclasses import dataclass
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
