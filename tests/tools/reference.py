"""A dumb second implementation: float64, everything materialised, one formula a line."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass
class Grid:
    """Textbook metrics of logits (layer, position, vocabulary)."""

    logits: Tensor
    final: Tensor
    """(position, vocabulary) the model's own logits"""
    entering: Tensor
    """(position, vocabulary) the decoded input row"""

    @cached_property
    def log_p(self) -> Tensor:
        return self.logits.double().log_softmax(-1)

    def kl(self, reference: Tensor) -> Tensor:
        """KL(reference || layer)"""
        log_q = reference.double().log_softmax(-1)
        return (log_q.exp() * (log_q - self.log_p)).sum(-1)

    def kl_reverse(self, reference: Tensor) -> Tensor:
        """KL(layer || reference)"""
        log_q = reference.double().log_softmax(-1)
        return (self.log_p.exp() * (self.log_p - log_q)).sum(-1)

    def rank(self, target: Tensor) -> Tensor:
        """1 + the number of strictly larger logits; ``target`` (position,)"""
        own = self.logits[:, torch.arange(len(target)), target]
        return 1 + (self.logits > own.unsqueeze(-1)).sum(-1)

    def entropy(self) -> Tensor:
        return -(self.log_p.exp() * self.log_p).sum(-1)

    def cross_entropy(self, target: Tensor) -> Tensor:
        """- log p[target]; ``target`` (position,)"""
        return -self.log_p[:, torch.arange(len(target)), target]

    def logit_diff(self, target: Tensor, minus: Tensor) -> Tensor:
        columns = torch.arange(len(target))
        return (self.logits[:, columns, target] - self.logits[:, columns, minus]).double()

    def jensen_shannon(self) -> Tensor:
        """1/2 KL(p || m) + 1/2 KL(q || m) of a layer and the output, m = (p + q) / 2"""
        log_p, log_q = self.log_p, self.final.double().log_softmax(-1)
        log_m = torch.logaddexp(log_p, log_q.expand_as(log_p)) - torch.tensor(2).log()
        of_p = (log_p.exp() * (log_p - log_m)).sum(-1)
        return (of_p + (log_q.exp() * (log_q - log_m)).sum(-1)) / 2

    def overlap(self, k: int) -> Tensor:
        """The share of the k best tokens that are among the output's k best"""
        output = (-self.final).argsort(dim=-1, stable=True)[..., :k]
        own = [[set(cell) for cell in row] for row in self.guesses(k).tolist()]
        best = [set(cell) for cell in output.tolist()]
        shared = [[len(a & b) for a, b in zip(row, best, strict=True)] for row in own]
        return torch.tensor(shared).double() / k

    def guesses(self, k: int) -> Tensor:
        """(layer, position, k) ids, lowest id first among equals"""
        return self.order[..., :k]

    @cached_property
    def order(self) -> Tensor:
        return (-self.logits).argsort(dim=-1, stable=True)


def rms_norm(x: Tensor, gain: Tensor | None, epsilon: float) -> Tensor:
    """x / sqrt(mean x^2 + epsilon), times the gain"""
    y = x.double() / (x.double().square().mean(-1, keepdim=True) + epsilon).sqrt()
    return y if gain is None else y * gain.double()


def llama_grid(model: object, ids: Tensor, norm: str = "full") -> Grid:
    """The lens on a Llama, from transformers' own record of the residual stream.

    ``output_hidden_states`` gives what enters every block, and the last block's output only after
    the final norm; so that one row is taken with a hook.
    """
    last: list[Tensor] = []
    hook = model.model.layers[-1].register_forward_hook(  # type: ignore[attr-defined]
        lambda module, args, output: last.append(output)
    )
    with torch.no_grad():
        out = model(input_ids=ids[None], output_hidden_states=True)  # type: ignore[operator]
    hook.remove()
    resid = torch.cat([*out.hidden_states[:-1], *last])
    final_norm = model.model.norm  # type: ignore[attr-defined]
    gain = {"full": final_norm.weight, "no-affine": None}.get(norm)
    if norm == "none":
        decoded = resid.double()
    else:
        decoded = rms_norm(resid, gain, final_norm.variance_epsilon)
    weight = model.lm_head.weight.double()  # type: ignore[attr-defined]
    logits = decoded @ weight.T
    return Grid(logits, out.logits[0].double(), logits[0])
