"""A small GPT, byte by byte, on the English text that ships with Python."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SEED = 0
WIDTH = 128
LAYERS = 3
HEADS = 4
CONTEXT = 64
BATCH = 16
HELD_OUT = 0.1
TEST_BATCHES = 8


class Block(nn.Module):
    """Attention and a perceptron, each behind a LayerNorm and beside a shortcut."""

    def __init__(self, width: int) -> None:
        """Create the layers."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, length, width)."""
        batch, length, width = x.shape
        heads = self.qkv(self.norm1(x)).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        widened: Tensor = self.narrow(F.gelu(self.widen(self.norm2(x))))
        return x + widened


class GPT(nn.Module):
    """Decoder with learned positions and its head tied to the embedding."""

    def __init__(self, vocabulary: int, width: int = WIDTH, layers: int = LAYERS) -> None:
        """Create the layers, with GPT-2's initial deviations."""
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.02)

    def forward(self, text: Tensor) -> Tensor:
        """text: (batch, length) -> logits (batch, length, vocabulary)."""
        x = self.tokens(text) + self.positions.weight[: text.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


class Text:
    """Python's own reference on its topics (``help("for")`` and its like), 0.46 MB of English."""

    name = "text"
    title = "Small GPT on Python's help text"
    metric = "validation loss"
    percent = False
    lr = 1e-3
    warm_up = 50
    weight_decay = 1e-2

    def __init__(
        self,
        device: torch.device,
        steps: int = 400,
        seed: int = SEED,
        width: int = WIDTH,
        layers: int = LAYERS,
    ) -> None:
        """Encode and split the text, and fix the batches of all steps."""
        from pydoc_data.topics import topics

        text = "\n".join(topics[key] for key in sorted(topics)).encode()
        alphabet = sorted(set(text))
        code = torch.zeros(256, dtype=torch.long)
        code[torch.tensor(alphabet)] = torch.arange(len(alphabet))
        data = code[torch.tensor(list(text))].to(device)
        held_out = int(len(data) * HELD_OUT)
        self._train, self._test = data[:-held_out], data[-held_out:]
        generator = torch.Generator().manual_seed(seed)

        def starts(length: int, batches: int) -> Tensor:
            return torch.randint(length - CONTEXT, (batches, BATCH), generator=generator).to(device)

        self._starts = starts(len(self._train), steps)
        self._test_starts = starts(len(self._test), TEST_BATCHES)
        self._window = torch.arange(CONTEXT + 1, device=device)
        self._vocabulary = len(alphabet)
        self._device = device
        self._seed, self._size = seed, (width, layers)
        self.steps = steps
        self.evaluate_every = max(1, steps // 10)
        self.data = f"{len(text):,} bytes of pydoc_data.topics, the last tenth held out"

    def model(self) -> nn.Module:
        """A GPT; of the default size, it has 0.6 million parameters."""
        torch.manual_seed(self._seed)
        return GPT(self._vocabulary, *self._size).to(self._device)

    def _cross_entropy(self, model: nn.Module, data: Tensor, starts: Tensor) -> Tensor:
        windows = data[starts[:, None] + self._window]
        return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Cross entropy on one batch of the training text, nats a byte."""
        return self._cross_entropy(model, self._train, self._starts[step])

    def evaluate(self, model: nn.Module) -> float:
        """Cross entropy on fixed windows of the held-out text, nats a byte."""
        losses = [self._cross_entropy(model, self._test, starts) for starts in self._test_starts]
        return float(torch.stack(losses).mean())
