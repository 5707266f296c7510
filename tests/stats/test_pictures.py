"""Pictures of runs, and the command that draws them."""

from pathlib import Path
from typing import Any

import pytest

from adamp_fused.stats import layers, pictures, read
from messages import message
from stats.commands import call
from stats.fakes import write_run

HEADER = b"\x89PNG"


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error tells how to get it."""
    monkeypatch.setattr(pictures.importlib.util, "find_spec", lambda name: None)
    run = read(write_run(tmp_path / "run.jsonl", 2))
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        pictures.draw([run], tmp_path / "run.png")


@pytest.mark.parametrize("count", [1, 150])
def test_two_runs(tmp_path: Path, count: int) -> None:
    """One layer and many, beside a run of one record and other layers."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    one = read(write_run(tmp_path / "one.jsonl", count, steps=4))
    other = read(write_run(tmp_path / "other.jsonl", count + 1, steps=0, optimizer="AdamW"))
    drawn = pictures.draw([one, other], tmp_path / "run.png")
    assert drawn == {"layers": count + 1, "steps": 4}
    assert (tmp_path / "run.png").read_bytes().startswith(HEADER)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """It draws, and says what; an error of the input is one line."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    run, output = write_run(tmp_path / "run.jsonl", 3), str(tmp_path / "a.png")
    assert call(monkeypatch, "stats", str(run), "--all", "-o", output) == 0
    assert "4 layers, 3 recorded steps" in capsys.readouterr().out
    assert call(monkeypatch, "stats", str(tmp_path / "none.jsonl"), "-o", output) == 1
    assert "does not exist" in capsys.readouterr().err


def test_nothing_to_draw(tmp_path: Path) -> None:
    """Biases alone are told with the remedy."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    run = read(write_run(tmp_path / "run.jsonl", 0))
    assert "--all" in message(lambda: pictures.draw([run], tmp_path / "run.png"))
    assert "one or two" in message(lambda: pictures.draw([run] * 3, tmp_path / "run.png"))


def test_order_of_layers() -> None:
    """Layers of a second run come after those that they follow there."""
    assert layers.merged([["a", "c"], ["a", "b", "c", "d"]]) == ["a", "b", "c", "d"]
    assert layers.merged([["a"], ["x", "a"]]) == ["x", "a"]


def test_groups() -> None:
    """Modules are as deep as there is room for labels, and cover all layers."""
    names = [f"layer{i}.{j}.{k}.weight" for i in range(2) for j in range(3) for k in "ab"]
    assert [g.label for g in layers.grouped(names, 2)] == ["layer0 (6)", "layer1 (6)"]
    assert layers.grouped(names, 6)[1] == layers.Group("layer0.1 (2)", 2, 4)
    assert len(layers.grouped(names, 12)) == 12
    for most in range(1, 14):
        groups = layers.grouped(names, most)
        assert len(groups) <= most
        assert [g.begin for g in groups] == [0, *(g.end for g in groups[:-1])]
        assert groups[-1].end == len(names)
