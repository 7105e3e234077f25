"""Counter-based random draws, one independent stream for each row.

A row's draw depends on its own key, the stream's name and a counter only: not on the other
rows, the batch, or earlier draws. So results do not change when a batch is split, shuffled
or resumed.

The bits come from the SplitMix64 finaliser (Steele, Lea & Flood, OOPSLA 2014) applied
to a per-row state and the index of each entry.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from notbugs.core.types import Keys, Rows

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def seed_of(*names: object) -> int:
    """A 63-bit seed from any names, for example `seed_of(seed, "targets", "D_rand")`."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*names: object) -> torch.Generator:
    """A new CPU generator seeded for the named purpose; the global one is never used."""
    return torch.Generator().manual_seed(seed_of(*names))


def row_keys(n: int, *names: object, device: torch.device | str = "cpu") -> Keys:
    """`n` keys, one per row, for the named purpose: row i always gets the same key."""
    index = torch.arange(n, dtype=torch.int64, device=device)
    return _mix(index * _GAMMA + seed_of(*names))


def fold(keys: Keys, *names: object) -> Keys:
    """New keys from old ones and a purpose (a step number, a restart, a name)."""
    return _mix(keys + seed_of(*names))


def uniform(keys: Keys, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Draws from U[0, 1), one row per key: shape [n, *shape]."""
    bits = _bits(keys, math.prod(shape))
    digits = 53 if dtype == torch.float64 else 24
    top = _shift(bits, 64 - digits).to(torch.float64) * 2.0**-digits
    return top.to(dtype).reshape(keys.shape[0], *shape)


def normal(keys: Keys, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Draws from N(0, 1) (Box-Muller), one row per key: shape [n, *shape]."""
    u = uniform(fold(keys, "radius"), shape, torch.float64)
    v = uniform(fold(keys, "angle"), shape, torch.float64)
    return (torch.sqrt(-2 * torch.log1p(-u)) * torch.cos(2 * math.pi * v)).to(dtype)


def integers(keys: Keys, high: int) -> Tensor:
    """Draws one integer in 0..high-1 for each key: shape [n]."""
    return (uniform(keys, (), torch.float64) * high).to(torch.int64).clamp_(max=high - 1)


def scalar(keys: Keys, dtype: torch.dtype = torch.float32) -> Rows:
    """Draws one U[0, 1) number for each key: shape [n]."""
    return uniform(keys, (), dtype)


def cycle(n: int, *names: object) -> Tensor:
    """For each of 0..n-1 the next in a random cycle through all, [n]: none is its own."""
    order = torch.randperm(n, generator=generator(*names))
    following = torch.empty_like(order)
    following[order] = order.roll(1)
    return following


def _bits(keys: Keys, count: int) -> Tensor:
    index = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device)
    return _mix(keys[:, None] + index * _GAMMA)


def _shift(z: Tensor, by: int) -> Tensor:
    """Logical shift to the right: torch's own keeps the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)
