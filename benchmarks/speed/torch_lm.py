"""The zoo's transformer in PyTorch, on TorchDEQ: the same layers, sizes and settings."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchdeq import get_deq
from torchdeq.norm import apply_norm, reset_norm

from zoo.lm.config import LMConfig


class Block(nn.Module):
    """Attention with relative positions, then feed-forward, each around a residual connection."""

    def __init__(self, config: LMConfig):
        super().__init__()
        d, self.heads = config.d_model, config.n_head
        self.pre_norm, self.packed = config.pre_norm, config.traits.packed_by_head
        norm = lambda: nn.LayerNorm(d, elementwise_affine=config.traits.affine_norms)
        self.ln1, self.ln = norm(), norm()
        self.ln2 = norm() if config.traits.heads_norm else nn.Identity()
        self.qkv_net, self.r_net = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.o_net = nn.Linear(d, d)
        self.ff1_net, self.ff2_net = nn.Linear(d, config.d_inner), nn.Linear(config.d_inner, d)
        self.r_w_bias = nn.Parameter(0.05 * torch.randn(self.heads, d // self.heads))
        self.r_r_bias = nn.Parameter(0.05 * torch.randn(self.heads, d // self.heads))

    def forward(self, z, memory, u, encodings, mask):
        if self.pre_norm:
            z = z + self.attention(self.ln1(z), self.ln1(memory), u, encodings, mask)
            return z + self.feed_forward(self.ln(z))
        z = self.ln1(z + self.attention(z, memory, u, encodings, mask))
        return self.ln(z + self.feed_forward(z))

    def feed_forward(self, y):
        return self.ff2_net(functional.relu(self.ff1_net(y)))

    def attention(self, y, memory, u, encodings, mask):
        batch, length, d = y.shape
        qkv = self.qkv_net(torch.cat([memory, y], 1)) + u
        shape = (self.heads, 3) if self.packed else (3, self.heads)
        qkv = qkv.view(batch, -1, *shape, d // self.heads)
        # contiguous (batch, head, position, width): products of strided ones take twice as long
        q, k, v = (x.transpose(1, 2).contiguous() for x in qkv.unbind(3 if self.packed else 2))
        r = self.r_net(encodings).view(-1, self.heads, d // self.heads).transpose(0, 1).contiguous()
        q = q[:, :, -length:]
        content = (q + self.r_w_bias[:, None]) @ k.transpose(-1, -2)
        position = (q + self.r_r_bias[:, None]) @ r.transpose(-1, -2)
        scores = (content + relative_shift(position)) * (d // self.heads) ** -0.5
        weights = torch.softmax(scores.masked_fill(mask, -torch.inf), -1)
        heads = (weights @ v).transpose(1, 2).reshape(batch, length, d)
        return self.o_net(self.ln2(heads))


def relative_shift(scores):
    """As `zoo.lm.positions.relative_shift`."""
    batch, heads, length, keys = scores.shape
    padded = functional.pad(scores, (1, 0)).view(batch, heads, keys + 1, length)
    return padded[:, :, 1:].reshape(batch, heads, length, keys)


class LanguageModel(nn.Module):
    """Words -> injection -> equilibrium of the blocks -> log probabilities; one table of words."""

    def __init__(self, config: LMConfig, deq: dict[str, Any]):
        super().__init__()
        d = config.d_model
        self.words = nn.Embedding(config.n_token, d)
        self.bias = nn.Parameter(torch.zeros(config.n_token))
        self.injection = nn.Linear(d, 3 * d)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        apply_norm(self.blocks, "weight_norm")
        self.deq = get_deq(core="sliced", **deq)
        keys = config.mem_len + config.tgt_len
        distance = torch.arange(keys - 1, -1, -1.0)
        angles = torch.outer(distance, 1e4 ** -(torch.arange(0, d, 2) / d))
        self.encodings = torch.cat([angles.sin(), angles.cos()], -1)
        query = config.mem_len + torch.arange(config.tgt_len)[:, None]
        self.mask = torch.arange(keys) > query
        self.memory = torch.randn(1, config.mem_len, d)
        self.u_memory = torch.randn(1, config.mem_len, 3 * d)
        self.scale = d**0.5

    def forward(self, tokens, targets):
        """The mean negative log probability, and the state."""
        reset_norm(self.blocks)
        batch = len(tokens)
        u = self.injection(self.scale * self.words(tokens))
        memory = self.memory.expand(batch, -1, -1)
        u = torch.cat([self.u_memory.expand(batch, -1, -1), u], 1)

        def f(z):
            for block in self.blocks:
                z = block(z, memory, u, self.encodings, self.mask)
            return z

        states, _ = self.deq(f, torch.zeros(batch, tokens.shape[1], memory.shape[-1]))
        logits = functional.linear(states[-1], self.words.weight, self.bias)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten()), states[-1]
