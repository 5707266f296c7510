"""Every pass mark again, from the raw numbers in paper.json and with arithmetic of its own.

Nothing of ``bench.paper`` is imported: neither its gates, nor its marks, nor its means.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "bench" / "results" / "paper.json"

Record = dict[str, Any]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """The committed report."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def records(report: dict[str, Any], name: str) -> list[Record]:
    """All records of an experiment."""
    (entry,) = (entry for entry in report["experiments"] if entry["name"] == name)
    return entry["records"]


def column(found: list[Record], key: str, **case: Any) -> list[float]:
    """One number of every record with these options, in the order of seeds."""
    chosen = [r for r in found if all(r[option] == value for option, value in case.items())]
    assert len({r.get("seed") for r in chosen}) == len(chosen) >= 1
    return [r[key] for r in chosen]


def mean(sample: list[float]) -> float:
    """Arithmetic mean."""
    return math.fsum(sample) / len(sample)


def pooled(first: list[float], second: list[float]) -> float:
    """Pooled standard deviation of two samples of one size."""
    assert len(first) == len(second) >= 5
    squares = [(x - mean(sample)) ** 2 for sample in (first, second) for x in sample]
    return math.sqrt(math.fsum(squares) / (2 * (len(first) - 1)))


def median(sample: list[float]) -> float:
    """Middle value, of an odd number of them."""
    assert len(sample) % 2 == 1
    return sorted(sample)[len(sample) // 2]


def stated(report: dict[str, Any], name: str) -> list[tuple[float, str, float]]:
    """Value, relation and limit of every gate of an experiment, as the report states them."""
    (entry,) = (entry for entry in report["experiments"] if entry["name"] == name)
    return [(gate["value"], gate["relation"], gate["limit"]) for gate in entry["gates"]]


def check(report: dict[str, Any], name: str, values: list[float], marks: list[tuple]) -> None:
    """The report states these values, these marks, and the verdict that follows from them."""
    assert stated(report, name) == [
        (pytest.approx(value, rel=1e-9, abs=1e-18), relation, limit)
        for value, (relation, limit) in zip(values, marks, strict=True)
    ]
    kept = [
        {"<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit}[how]
        for value, (how, limit) in zip(values, marks, strict=True)
    ]
    (entry,) = (entry for entry in report["experiments"] if entry["name"] == name)
    assert [gate["passed"] for gate in entry["gates"]] == kept
    assert entry["passed"] == all(kept)


def test_full_form(report: dict[str, Any]) -> None:
    """The committed report is complete, and of the native CPU kernels."""
    assert report["settings"] == {"quick": False, "backend": "cpu"}
    names = [entry["name"] for entry in report["experiments"]]
    assert names == [
        *("lemmas", "figure1", "rosenbrock", "growth", "decay", "adversarial", "retrieval"),
        *("language", "perceptron", "overhead"),
    ]


def test_lemmas(report: dict[str, Any]) -> None:
    """Each lemma's largest error is at most 1e-12."""
    largest: dict[str, float] = {}
    for record in records(report, "lemmas"):
        largest[record["lemma"]] = max(largest.get(record["lemma"], 0.0), record["error"])
    assert next(iter(largest)) == "Eq. 4"
    assert len(largest) == 7
    check(report, "lemmas", list(largest.values()), [("<=", 1e-12)] * 7)


def test_lemmas_from_squares(report: dict[str, Any]) -> None:
    """The sums of Lemmas 2.1 and 2.2 and of Eq. 12 again, from the squared norms of each step."""
    seen = set()
    for record in records(report, "lemmas"):
        if "squares" not in record:
            continue
        seen.add(record["lemma"])
        w, eta2 = record["squares"]["w"], record["eta"] ** 2
        p = record["squares"]["p"]
        assert len(w) == len(p) + 1 == 61
        for t in range(len(p)):
            if record["lemma"] == "Eq. 12":
                q = record["squares"]["q"][t]
                assert q <= p[t] * (1 + 1e-12)
                expected = w[t] + eta2 * q
            else:
                earlier = [record["beta"] ** (t - k) * p[k] for k in range(t)]
                expected = w[t] + eta2 * p[t] + 2 * eta2 * math.fsum(earlier)
            assert w[t + 1] == pytest.approx(expected, rel=1e-12)
    assert seen == {"Lemma 2.1", "Lemma 2.2", "Eq. 12"}


def test_corollary_from_increments(report: dict[str, Any]) -> None:
    """Growth over that of GD: 3, 19 and 199 in the limit, and the finite sum before it."""
    found = [r for r in records(report, "lemmas") if r["lemma"] == "Corollary 2.3"]
    assert sorted({r["beta"] for r in found}) == [0.5, 0.9, 0.99]
    for record in found:
        beta, steps = record["beta"], record["steps"]
        limit = {0.5: 3, 0.9: 19, 0.99: 199}[beta]
        assert record["last_increment"] == pytest.approx(limit, rel=1e-12)
        # sum over t of 1 + 2 beta (1 - beta^t) / (1 - beta), summed in closed form.
        powers = (1 - beta**steps) / (1 - beta)
        total = steps + 2 * beta / (1 - beta) * (steps - powers)
        assert record["total"] == pytest.approx(total, rel=1e-11)


FIGURE1 = [
    *(("gd", 0.0, 1.02, 3.9949), ("momentum", 0.9, 2.93, 0.0513)),
    *(("momentum", 0.95, 5.67, 0.0509), ("momentum", 0.99, 27.87, 0.0630)),
    *(("ours", 0.9, 1.12, 0.0010), ("ours", 0.95, 1.14, 0.0008), ("ours", 0.99, 1.15, 0.0043)),
]


def test_figure1(report: dict[str, Any]) -> None:
    """Final norms to 0.005, losses at iteration 100 to 5e-5."""
    found, values = records(report, "figure1"), []
    for kind, beta, norm, loss in FIGURE1:
        (record,) = (r for r in found if (r["kind"], r["beta"]) == (kind, beta))
        values += [abs(record["final_norm"] - norm), abs(record["loss_at_100"] - loss)]
        # The path ends where the norm says, and the loss is that of the point at iteration 100.
        assert math.hypot(*record["path"][-1]) == pytest.approx(record["final_norm"], abs=1e-4)
        x, y = record["path"][20]
        assert (1 + y / math.hypot(x, y)) ** 2 == pytest.approx(record["loss_at_100"], abs=5e-4)
    check(report, "figure1", values, [("<=", 0.005), ("<=", 5e-5)] * 7)


POINTS = [-1.7212, 1.9979, -1.2220, 1.9751, -1.0829, 1.9296, -1.1873, 1.8781, -1.4422, 1.8156]


def test_rosenbrock(report: dict[str, Any]) -> None:
    """First points to 1e-3; medians of norms over 991 learning rates more than 2 apart."""
    found = records(report, "rosenbrock")
    (ours,) = (r for r in found if r["what"] == "figure" and r["kind"] == "ours")
    measured = [value for point in ours["first_points"] for value in point]
    error = max(abs(a - b) for a, b in zip(measured, POINTS, strict=True))
    sweeps = {r["kind"]: r["norms"] for r in found if r["what"] == "sweep"}
    assert [len(norms) for norms in sweeps.values()] == [991, 991]
    ratio = median(sweeps["momentum"]) / median(sweeps["ours"])
    check(report, "rosenbrock", [error, ratio], [("<=", 1e-3), (">", 2.0)])


def test_growth(report: dict[str, Any]) -> None:
    """Growth more than 4 times, effective step larger, gap larger with every momentum."""
    found, values = records(report, "growth"), []
    for record in found:
        growth = record["last_norm"] / record["first_norm"] - 1
        assert record["growth"] == pytest.approx(growth, rel=1e-9)
    momenta = sorted({r["momentum"] for r in found})
    assert momenta == [0.0, 0.5, 0.9, 0.99]
    for plain, ours in (("sgd", "sgdp"), ("adamw", "adamp")):
        sides = {
            key: [
                {o: mean(column(found, key, optimizer=o, momentum=m)) for o in (plain, ours)}
                for m in momenta
            ]
            for key in ("growth", "effective_step")
        }
        gaps = [side[plain] - side[ours] for side in sides["growth"]]
        usual, step = sides["growth"][2], sides["effective_step"][2]
        least = min(gaps[i + 1] - gaps[i] for i in range(3))
        values += [usual[plain] / usual[ours], step[ours] / step[plain], least]
    check(report, "growth", values, [(">", 4.0), (">", 1.0), (">", 0.0)] * 2)


def test_decay(report: dict[str, Any]) -> None:
    """Norms of SGDP within a factor of 1.3, those of SGD beyond 2."""
    found = records(report, "decay")
    decays = sorted({r["weight_decay"] for r in found})
    assert (decays[0], decays[-1]) == (0.0, 1e-2)
    values = []
    for optimizer in ("sgdp", "sgd"):
        norms = [
            mean(column(found, "last_norm", optimizer=optimizer, weight_decay=decay))
            for decay in decays
        ]
        values.append(max(norms) / min(norms))
    check(report, "decay", values, [("<", 1.3), (">", 2.0)])


def test_adversarial(report: dict[str, Any]) -> None:
    """Attacked accuracy at most one standard deviation lower, norm at most half."""
    found = records(report, "adversarial")
    lr = min(r["lr"] for r in found)
    adamw, adamp = (
        column(found, "attacked_accuracy", optimizer=o, lr=lr) for o in ("adamw", "adamp")
    )
    apart = (mean(adamp) - mean(adamw)) / pooled(adamp, adamw)
    norms = [mean(column(found, "last_norm", optimizer=o, lr=lr)) for o in ("adamw", "adamp")]
    check(report, "adversarial", [apart, norms[1] / norms[0]], [(">=", -1.0), ("<=", 0.5)])


def test_retrieval(report: dict[str, Any]) -> None:
    """Views found in 99 % of the steps, growth more than 5 times at every learning rate."""
    found = records(report, "retrieval")
    adamp = [r for r in found if r["optimizer"] == "adamp"]
    steps = sum(r["steps"] for r in adamp)
    values = [sum(r[key] for r in adamp) / steps for key in ("layer_detected", "channel_detected")]
    rates = sorted({r["lr"] for r in found})
    assert 1e-2 in rates
    for lr in rates:
        growth = [
            mean(
                [
                    r["last_norm"] / r["first_norm"] - 1
                    for r in found
                    if (r["optimizer"], r["lr"]) == (o, lr)
                ]
            )
            for o in ("adamw", "adamp")
        ]
        values.append(growth[0] / growth[1])
    check(report, "retrieval", values, [(">=", 0.99)] * 2 + [(">", 5.0)] * len(rates))


def test_language(report: dict[str, Any]) -> None:
    """Plain: less than two standard deviations apart; weight-normalised: AdamP's loss lower."""
    found = records(report, "language")
    plain, normalised = (
        [column(found, "loss", optimizer=o, normalised=n) for o in ("adamw", "adamp")]
        for n in (False, True)
    )
    apart = abs(mean(plain[0]) - mean(plain[1])) / pooled(*plain)
    gap = mean(normalised[0]) - mean(normalised[1])
    check(report, "language", [apart, gap], [("<", 2.0), (">", 0.0)])


def test_perceptron(report: dict[str, Any]) -> None:
    """Accuracy less than two standard deviations below the baseline's."""
    found, values = records(report, "perceptron"), []
    for plain, ours in (("sgd", "sgdp"), ("adamw", "adamp")):
        theirs, mine = (column(found, "accuracy", optimizer=o) for o in (plain, ours))
        difference = mean(mine) - mean(theirs)
        values.append(difference / pooled(mine, theirs) if difference else 0.0)
    check(report, "perceptron", values, [(">", -2.0)] * 2)


def test_overhead_is_not_gated(report: dict[str, Any]) -> None:
    """Times are published, 200 of each optimizer."""
    (record,) = records(report, "overhead")
    assert {len(times) for times in record["step_s"].values()} == {200}
    check(report, "overhead", [], [])
