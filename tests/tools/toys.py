"""Causal models of a few lines that write down themselves what their blocks leave.

Test support, not a test. ``truth`` is the definition by hand: what enters the first block, what
leaves each block at each of its runs, in float64, and the model's own norm and head on it. No hook
and nothing of the product is used.
"""

import copy
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

WIDTH, WORDS = 16, 60
IDS = [3, 17, 9, 44, 30, 2, 51, 25, 8]


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.3 * torch.randn(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


class Mean(nn.Module):
    """Attends to all earlier positions alike."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(1, x.shape[-2] + 1, dtype=x.dtype)[:, None]
        mixed: Tensor = self.out(x.cumsum(-2) / steps)
        return mixed


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(), Norm()
        self.attention, self.mlp = Mean(), mlp()

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.attention(self.norm1(h))
        return h + self.mlp(self.norm2(h))  # type: ignore[no-any-return]


def blocks(count: int) -> nn.ModuleList:
    return nn.ModuleList(Block() for _ in range(count))


class Toy(nn.Module):
    """Embedding, ``body``, norm, head. Subclasses build their blocks in ``parts`` and run them in
    ``body``, where they ``keep`` every row."""

    config = SimpleNamespace(to_dict=dict, get_text_config=lambda: SimpleNamespace(to_dict=dict))

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embed = nn.Embedding(WORDS, WIDTH)
            self.parts()
            self.norm, self.head = Norm(), nn.Linear(WIDTH, WORDS, bias=False)
        self.rows: list[Tensor] = []
        self.eval().requires_grad_(False)

    def parts(self) -> None:
        raise NotImplementedError

    def body(self, h: Tensor) -> Tensor:
        raise NotImplementedError

    def tail(self, h: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(h))
        return logits

    def keep(self, h: Tensor) -> Tensor:
        self.rows.append(h.clone())
        return h

    def forward(self, input_ids: Tensor, return_dict: bool = True) -> Any:
        self.rows.clear()
        return SimpleNamespace(logits=self.tail(self.body(self.embed(input_ids))))

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def truth(self, ids: list[int] = IDS) -> tuple[Tensor, Tensor]:
        """(row, position, width) and (row, position, word), float64."""
        twin = copy.deepcopy(self).double()
        twin(torch.tensor([ids]))
        rows = torch.cat(twin.rows)
        return rows, twin.tail(rows)
