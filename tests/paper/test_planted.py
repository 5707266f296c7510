"""The fast gates notice planted faults of the projection, and pass without one."""

from functools import partial

import pytest

from bench.paper import figure1, lemmas, retrieval, rosenbrock
from bench.paper.experiment import Record, Settings
from paper import faults

BACKEND = "reference"
SETTINGS = Settings(quick=True, backend=BACKEND)


def run_lemmas() -> list[Record]:
    """All that project, that is all but the corollary, for a few steps."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(lemmas, "STEPS", 10)
        found = lemmas.cases(SETTINGS)
        return [
            case()
            for case in found
            if not (isinstance(case, partial) and case.func is lemmas.corollary_2_3)
        ]


def run_figure1() -> list[Record]:
    """All trajectories."""
    return [case() for case in figure1.cases(SETTINGS)]


def run_rosenbrock() -> list[Record]:
    """The figure's projected run, and ten learning rates."""
    rates = rosenbrock.RATES[::100]
    sweeps = [rosenbrock.sweep(kind, rates, BACKEND) for kind in rosenbrock.SWEPT]
    return [*sweeps, rosenbrock.figure_run("ours", BACKEND)]


def run_retrieval() -> list[Record]:
    """One short training of each optimizer at every learning rate."""
    return [
        retrieval.train(optimizer, lr, 0, 60, BACKEND)
        for lr in retrieval.LRS
        for optimizer in retrieval.OPTIMIZERS
    ]


RUNS = {
    "lemmas": (run_lemmas, lemmas.gates),
    "figure1": (run_figure1, figure1.gates),
    "rosenbrock": (run_rosenbrock, rosenbrock.gates),
    "retrieval": (run_retrieval, retrieval.gates),
}


def failed(name: str) -> list[str]:
    """The gates of an experiment that are missed."""
    run, gates = RUNS[name]
    return [gate.what for gate in gates(run()) if not gate.passed]


NOTICED = [
    *((faults.flipped_sign, name) for name in RUNS),
    *((faults.no_projection, name) for name in RUNS),
    *((faults.layer_for_channel, name) for name in ("lemmas", "retrieval")),
    *((faults.channel_for_layer, name) for name in ("lemmas", "retrieval")),
    *((fault, "lemmas") for fault in (faults.missing_eps, faults.missing_clamp)),
]


@pytest.mark.proof
@pytest.mark.parametrize("name", RUNS)
def test_without_a_fault(name: str) -> None:
    """Every gate is kept."""
    assert failed(name) == []


@pytest.mark.proof
@pytest.mark.parametrize(
    ("fault", "name"), NOTICED, ids=[f"{fault.__name__}-{name}" for fault, name in NOTICED]
)
def test_fault_is_noticed(fault: faults.Plant, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate is missed."""
    fault(monkeypatch)
    assert failed(name) != []


SAMPLE = [faults.flipped_sign, faults.missing_eps, faults.missing_clamp]


@pytest.mark.parametrize("fault", [None, *SAMPLE], ids=lambda fault: getattr(fault, "__name__", ""))
def test_eps_lemma_notices(fault: faults.Plant | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of the proof: the step of rows whose norm is eps."""
    if fault is not None:
        fault(monkeypatch)
    cases = [
        lemmas.constant_eps("sgdp", "channel", BACKEND),
        lemmas.constant_eps("adamp", "layer", BACKEND),
        lemmas.clamp_eps("sgdp", BACKEND),
    ]
    (gate,) = lemmas.gates(cases)
    assert gate.passed == (fault is None)
