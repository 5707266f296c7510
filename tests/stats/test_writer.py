"""StatsWriter: which steps are recorded, what is in the file, and what happens when a run ends."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from adamp_fused.stats import StatsWriter, read
from adamp_fused.stats.records import as_line, margin, series
from messages import message
from stats.fakes import WithStats, model, train, values


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a run is recorded."""
    return tmp_path / "run.jsonl"


def with_stats(**options: Any) -> tuple[WithStats, torch.nn.Module]:
    """A fake optimizer and its model."""
    network = model()
    return WithStats(network.named_parameters(), **options), network


def test_recorded_steps(path: Path) -> None:
    """The first step, and multiples of ``every``; each asks the optimizer once."""
    optimizer, network = with_stats()
    with StatsWriter(optimizer, path, every=3) as writer:
        before = optimizer.asked
        train(optimizer, network, 7)
        assert writer.path == path
    train(optimizer, network, 5)
    run = read(path)
    assert run.steps == [1, 3, 6]
    assert optimizer.asked - before == 3 + 1  # and once for the number of the first step
    assert [stats["weight"]["growth"] for stats in run.records.values()] == [1, 3, 6]
    assert run.optimizer == "WithStats"
    assert run.meta["shapes"] == {"weight": [3, 4], "bias": [3]}
    assert run.names() == ["weight"] and run.names(all_parameters=True) == ["weight", "bias"]


def test_lines_are_complete_while_the_run_goes_on(path: Path) -> None:
    """Each record can be read before the writer is closed."""
    optimizer, network = with_stats()
    writer = StatsWriter(optimizer, path, every=1)
    train(optimizer, network, 2)
    assert read(path).steps == [1, 2]
    writer.close()
    writer.close()
    assert "closed" in message(lambda: writer.write(step=9))


def test_strict_json(path: Path) -> None:
    """Values that JSON does not know are strings, and numbers again once they are read."""
    odd = {"a": values(max_cosine=math.nan, growth=math.inf, removed=-math.inf)}
    lines = [{"format": 1, "optimizer": "X"}, {"step": 1, "stats": odd}]
    path.write_text("".join(as_line(line) for line in lines))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    back = read(path).records[1]["a"]
    assert math.isnan(back["max_cosine"])
    assert (back["growth"], back["removed"]) == (math.inf, -math.inf)
    assert back["outcomes"] == {"none": 0, "channel": 3, "layer": 0}


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_killed_and_resumed(path: Path, kept: float) -> None:
    """What a killed run left of its last line is left out, and cut off by the next session."""
    optimizer, network = with_stats()
    with StatsWriter(optimizer, path, every=2):
        train(optimizer, network, 5)
    *whole, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole) + last[: int(len(last) * kept)])
    assert read(path).steps == [1, 2]
    with StatsWriter(optimizer, path, every=2):
        train(optimizer, network, 4)
    assert read(path).steps == [1, 2, 6, 8]


def test_resumed_without_a_count(path: Path) -> None:
    """Where nothing counts steps they go on from the last record."""
    network = model()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        with StatsWriter(optimizer, path, every=2):
            train(optimizer, network, 3)
    assert read(path).steps == [1, 2, 4]


def test_resumed_from_a_checkpoint(path: Path) -> None:
    """Steps go on from the count in the state; those made again replace what was recorded."""
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    with StatsWriter(optimizer, path, every=2):
        train(optimizer, network, 4)
        saved = copy.deepcopy(optimizer.state_dict())
        train(optimizer, network, 5)
    assert read(path).steps == [1, 2, 4, 6, 8]
    again = torch.optim.AdamW(network.parameters(), lr=1e-2)
    with StatsWriter(again, path, every=5):
        again.load_state_dict(saved)
        train(again, network, 2)
    run = read(path)
    assert run.steps == [1, 2, 4, 5]
    stats = run.records[5]["group 0, parameter 0"]
    first = run.records[1]["group 0, parameter 0"]["weight_norm"]
    assert stats["growth"] == pytest.approx(stats["weight_norm"] / first)


def test_killed_before_the_first_record(path: Path) -> None:
    """A file that is empty, or ends within its first line, is begun anew."""
    for left in ("", '{"format":1,"opti'):
        path.write_text(left)
        optimizer, network = with_stats()
        with StatsWriter(optimizer, path, every=1):
            train(optimizer, network, 1)
        assert read(path).steps == [1]


def test_write_by_hand(path: Path) -> None:
    """For steps that call no hooks."""
    optimizer, _ = with_stats()
    with StatsWriter(optimizer, path) as writer:
        assert "write(step=1)" in message(writer.write)
        optimizer.stepped = 7
        writer.write(step=7)
    assert read(path).records[7]["weight"]["growth"] == 7


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Adam"])
def test_from_outside(path: Path, name: str) -> None:
    """What can be seen of an optimizer without statistics agrees with float64."""
    network = model().double()
    options = {"weight_decay": 0.1} if name == "AdamW" else {}
    optimizer = getattr(torch.optim, name)(network.named_parameters(), lr=0.05, **options)
    with StatsWriter(optimizer, path, every=1):
        train(optimizer, network, 1)
        first = float(network.weight.detach().norm())
        before = network.weight.detach().clone()
        train(optimizer, network, 1)
    after, grad = network.weight.detach(), network.weight.grad
    stats = read(path).records[2]["weight"]
    decay = 0.05 * 0.1 if options else 0.0
    update = (before * (1 - decay) - after).norm() / 0.05
    cosine = torch.nn.functional.cosine_similarity(before, grad, dim=1).abs().max()
    flat = torch.nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0)
    expected = {
        "weight_norm": first,
        "grad_norm": grad.norm(),
        "update_norm": update,
        "effective_lr": 0.05 * update / first,
        "max_cosine": cosine,
        "bound": 0.1 / 2,
        "angle": torch.acos(flat),
        "removed": 0.0,
    }
    for key, value in expected.items():
        assert stats[key] == pytest.approx(float(value), rel=1e-6), key
    assert stats["outcome"] == "none" and stats["outcomes"]["none"] == 2
    first_norm = read(path).records[1]["weight"]["weight_norm"]
    assert stats["growth"] == pytest.approx(first / first_norm)


def test_small_angles(path: Path) -> None:
    """An angle of 1e-5 is not lost to the rounding of float32."""
    weight = torch.nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    weight.grad = torch.tensor([[0.0, 1e-5], [0.0, 0.0]])
    optimizer = torch.optim.SGD([weight], lr=1.0)
    with StatsWriter(optimizer, path):
        optimizer.step()
    stats = read(path).records[1]["group 0, parameter 0"]
    assert stats["angle"] == pytest.approx(1e-5, rel=1e-3)


def test_closure_and_unused(path: Path) -> None:
    """A closure makes gradients within the step; a parameter without one is not recorded."""
    network = model()
    unused = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.SGD([*network.parameters(), unused], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = network(torch.ones(2, 4)).sum()
        loss.backward()
        return loss

    with StatsWriter(optimizer, path) as writer:
        optimizer.step(closure)
        assert "leave recording to the hooks" in message(writer.write)
    stats = read(path).records[1]
    assert set(stats) == {"group 0, parameter 0", "group 0, parameter 1"}
    assert stats["group 0, parameter 0"]["angle"] > 0


def test_errors(path: Path) -> None:
    """They name the value, the requirement and the remedy, and come before a file is made."""
    optimizer, _ = with_stats()
    assert "register_step_post_hook" in message(lambda: StatsWriter(3, path))  # type: ignore[arg-type]
    assert "every=0 must be at least 1" in message(lambda: StatsWriter(optimizer, path, 0))
    assert "every=2.5 must be an integer" in message(
        lambda: StatsWriter(optimizer, path, 2.5)  # type: ignore[arg-type]
    )
    refusing, _ = with_stats(refuses=True)
    assert "stats=True" in message(lambda: StatsWriter(refusing, path))
    assert not path.exists()
    path.write_text("my notes")
    assert "pass another path" in message(lambda: StatsWriter(optimizer, path))
    assert path.read_text() == "my notes"


def test_reading_errors(path: Path) -> None:
    """A broken line that is not the last one is told with its number."""
    with pytest.raises(FileNotFoundError, match=r"run\.jsonl"):
        read(path)
    path.write_text(as_line({"format": 1}))
    assert "has no record" in message(lambda: read(path))
    record = as_line({"step": 1, "stats": {}})
    path.write_text(record + "{oops\n" + record)
    assert "line 2" in message(lambda: read(path))
    path.write_text(record + '{"format": 99}\n')
    assert "format 99" in message(lambda: read(path))


def test_series(path: Path) -> None:
    """Numbers by parameter and step; NaN where a parameter was not there."""
    records = [{"a": values("layer")}, {"a": values(bound=0.0), "b": values()}]
    lines = [as_line({"step": i, "stats": stats}) for i, stats in enumerate(records, 1)]
    path.write_text("".join(lines))
    run = read(path)
    assert run.names() == ["a", "b"]
    assert series(run, ["a"], "outcome") == [[2.0, 1.0]]
    missing, there = series(run, ["b"], "growth")[0]
    assert math.isnan(missing) and there == 6.5
    assert margin(values()) == pytest.approx(0.5)
    assert series(run, ["a"], "margin")[0][1] == math.inf
