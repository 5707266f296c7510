"""The text that ships with Python, by characters: batches for training, windows for validation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.study.model import CONTEXT, GPT

HELD_OUT = 0.1
BATCH = 8
EVALUATION_BATCH = 128


class Text:
    """``pydoc_data.topics`` (``help("for")`` and its like), its last tenth held out.

    Attributes:
        vocabulary: number of different characters.
        description: the text and the split, for the report.
    """

    def __init__(self) -> None:
        """Encode and split the text."""
        from pydoc_data.topics import topics

        text = "\n".join(topics[key] for key in sorted(topics))
        alphabet = {character: code for code, character in enumerate(sorted(set(text)))}
        data = torch.tensor([alphabet[character] for character in text])
        held_out = int(len(data) * HELD_OUT)
        self._train = data[:-held_out]
        # Windows side by side, so that each held-out character is predicted once.
        windows = data[-held_out:].unfold(0, CONTEXT + 1, CONTEXT)
        self._validation = torch.split(windows, EVALUATION_BATCH)
        self.vocabulary = len(alphabet)
        self.description = (
            f"{len(text):,} characters of pydoc_data.topics, {len(alphabet)} different ones; "
            f"the last {held_out:,} held out"
        )

    def batches(self, steps: int, seed: int) -> Tensor:
        """Starts of the windows of all steps, (steps, BATCH)."""
        generator = torch.Generator().manual_seed(seed)
        last = len(self._train) - CONTEXT
        return torch.randint(last, (steps, BATCH), generator=generator)

    def loss(self, model: GPT, starts: Tensor) -> Tensor:
        """Cross entropy on the windows that begin at ``starts``, nats a character."""
        return _cross_entropy(model, self._train[starts[:, None] + torch.arange(CONTEXT + 1)])

    @torch.no_grad()
    def validation_loss(self, model: GPT) -> float:
        """Cross entropy on the whole held-out text, nats a character."""
        total = sum(float(_cross_entropy(model, w)) * len(w) for w in self._validation)
        return total / sum(map(len, self._validation))


def _cross_entropy(model: GPT, windows: Tensor) -> Tensor:
    return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
