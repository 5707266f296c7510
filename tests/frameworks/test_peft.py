"""PEFT: LoRA adapters on a small transformer; only they are trained, saved and loaded."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from conftest import Kind
from frameworks.comparing import assert_same_bits

OPTIONS = {"AdamP": {"lr": 1e-2, "weight_decay": 0.1}, "SGDP": {"lr": 0.05, "weight_decay": 1e-4}}


def base() -> LlamaForCausalLM:
    """Two layers of random weights."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "hidden_size": 24, "intermediate_size": 40}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, **ends))


def words() -> Tensor:
    """Rows that count, from a random number on."""
    start = torch.randint(0, 31, (16, 1), generator=torch.Generator().manual_seed(0))
    return (start + torch.arange(10)) % 31


def adapted() -> Any:
    """The model with adapters, the second matrix of which starts at zero."""
    torch.manual_seed(1)
    targets = ["q_proj", "v_proj", "up_proj", "lm_head"]
    return get_peft_model(base(), LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))


def split(model: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies of the adapters' weights, and of all others."""
    found: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for name, p in model.named_parameters():
        found["lora_" not in name][name] = p.detach().clone()
    return found


def train(model: Any, optimizer: Any) -> list[float]:
    """Twelve steps; the losses."""
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = model(input_ids=words(), labels=words()).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_only_adapters_train(kind: Kind) -> None:
    """Given all parameters, the optimizer moves every adapter and keeps no state of the rest."""
    model = adapted()
    optimizer = kind.make(model.parameters(), **OPTIONS[kind.name])
    adapters, others = split(model)
    losses = train(model, optimizer)
    moved, kept = split(model)
    assert len(adapters) == len(optimizer.state) == 14
    assert all(not torch.equal(moved[name], adapters[name]) for name in adapters)
    assert_same_bits(kept.values(), others.values())
    assert losses[-1] < 0.95 * losses[0]


def test_follows_official(kind: Kind) -> None:
    """The losses are those of the official package's optimizer, though half the weights are 0."""
    histories = []
    for make in (kind.make, kind.official):
        model = adapted()
        trainable = [p for p in model.parameters() if p.requires_grad]
        histories.append(train(model, make(trainable, **OPTIONS[kind.name])))
    torch.testing.assert_close(*histories, rtol=1e-3, atol=0)


def test_saved_and_loaded(kind: Kind, tmp_path: Path) -> None:
    """Adapters and optimizer that were saved go on to the bits of an uninterrupted run."""
    whole = adapted()
    optimizer = kind.make(whole.parameters(), **OPTIONS[kind.name])
    train(whole, optimizer)
    whole.save_pretrained(tmp_path)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    losses = train(whole, optimizer)

    loaded = PeftModel.from_pretrained(base(), tmp_path, is_trainable=True)
    other = kind.make(loaded.parameters(), **OPTIONS[kind.name])
    other.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    assert train(loaded, other) == losses
    assert_same_bits(loaded.state_dict().values(), whole.state_dict().values())
