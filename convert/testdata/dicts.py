"""Writes random state dicts with the real torch.

usage: dicts.py DIR SEED COUNT

Writes DIR/<i>.pt and prints, for each, one JSON object a line: {"file", "how", "tensors": {name: {dtype, shape, sha256}},
"aliases": {removed: kept}, "plain": number of entries that are no tensors}. The digest is of the row-major little-endian
bytes. Names are keys joined by dots. Tensors that are one memory, shape and strides are aliases of the alphabetically
first of them. The file with number i depends on SEED and i alone.
"""
import collections
import hashlib
import json
import os
import random
import sys

import torch

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8,
          torch.uint8, torch.bool, torch.complex64]
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
WORDS = ["weight", "bias", "running_mean", "0", "17", "größe", "层", "a b", "x/y", "q\\", '"', "_", "W" * 60, "module", "format", "\u00e9"]


def raw(t):
    t = t.detach().contiguous()
    if t.numel() == 0:
        return b""
    if t.is_complex():
        t = torch.view_as_real(t)
    return t.reshape(-1).view(INTEGERS[t.element_size()]).numpy().tobytes()


def memory(r, n, dtype):
    """n elements of any bits, every NaN included."""
    size = torch.tensor([], dtype=dtype).element_size()
    if dtype == torch.bool:
        return torch.tensor([r.random() < 0.5 for _ in range(n)], dtype=dtype)
    if n == 0:
        return torch.zeros(0, dtype=dtype)
    return torch.frombuffer(bytearray(r.randbytes(n * size)), dtype=dtype).clone()


def strided(r, base):
    """Any view at all: sizes, strides (0 too) and an offset that stay inside."""
    room = base.numel() - 1
    if room < 0:
        return base
    size, stride = [], []
    for _ in range(r.randrange(6)):
        n = r.choice([0, 1, 1, 2, 2, 3, 4, 5])
        s = r.choice([0, 1, 1, 2, 3, 5, 8])
        if n > 1 and (n - 1) * s > room:
            s = 0
        size.append(n)
        stride.append(s)
        room -= max(n - 1, 0) * s
    return base.as_strided(size, stride, r.randint(0, room))


def shaped(r, base):
    """A view as people make them."""
    n = base.numel()
    dims = []
    for d in (2, 3, 2, 5, 4):
        if n and n % d == 0 and r.random() < 0.6:
            dims.append(d)
            n //= d
    t = base.view(*dims, n) if base.numel() else base.view(r.choice([[0], [0, 3], [2, 0], [4, 0, 0]]))
    for _ in range(r.randrange(4)):
        kind = r.randrange(7)
        if kind == 0:
            t = t.permute(r.sample(range(t.dim()), t.dim()))
        elif kind == 1 and t.dim() and t.shape[0] > 1:
            a = r.randrange(t.shape[0])
            t = t[a:r.randint(a, t.shape[0])]
        elif kind == 2 and t.dim():
            t = t[..., ::r.randint(1, 3)]
        elif kind == 3:
            t = t.unsqueeze(r.randint(0, t.dim()))
        elif kind == 4 and t.dim() and t.shape[-1] > 0:
            t = t[..., r.randrange(t.shape[-1])]
        elif kind == 5 and t.numel() < 200:
            t = t.unsqueeze(0).expand(r.randint(1, 3), *t.shape)
        elif kind == 6 and t.dim() == 4:
            t = t.contiguous(memory_format=torch.channels_last)
    return t


def tensors(r):
    out = []
    for _ in range(r.randint(1, 4)):
        dtype = r.choice(DTYPES)
        base = memory(r, r.choice([0, 1, 2, 7, 12, 24, 60, 120, 360]), dtype)
        for _ in range(r.randint(1, 4)):
            kind = r.randrange(5)
            t = strided(r, base) if kind == 0 else shaped(r, base) if kind < 4 else base
            if r.random() < 0.25 and (t.is_floating_point() or t.is_complex()):
                t = torch.nn.Parameter(t, requires_grad=r.random() < 0.7)
            out.append(t)
            while r.random() < 0.25:  # a tie: the object itself, or the view made anew
                out.append(t if r.random() < 0.5 else t.detach().as_strided(t.shape, t.stride(), t.storage_offset()))
    r.shuffle(out)
    return out


def fresh(r, used):
    while True:
        name = ".".join(r.choice(WORDS) for _ in range(r.randint(1, 3)))
        if name not in used:
            used.add(name)
            return name


def plain(r):
    return r.choice([3, -1 << 40, 1 << 70, 0.5, float("nan"), None, True, "text", "", b"bytes", (1, "a"), [], {}, torch.Size([2, 3]), torch.float16, torch.device("cpu")])


def nest(r, leaves, depth):
    """Puts leaves into containers."""
    if r.random() < 0.2 and depth:
        return leaves if r.random() < 0.5 else tuple(leaves)
    out = collections.OrderedDict() if r.random() < 0.5 else {}
    used = set()
    while leaves:
        n = 1 if depth > 3 or r.random() < 0.7 else r.randint(1, len(leaves))
        part, leaves = leaves[:n], leaves[n:]
        # Names that are prefixes of others could make one joined name twice.
        key = fresh(r, used) if depth == 0 and n == 1 else "%d.%s" % (len(out), r.choice(WORDS)) if r.random() < 0.8 else len(out)
        if key in out or any(str(key).startswith(str(k) + ".") or str(k).startswith(str(key) + ".") for k in out):
            key = "n%d" % len(out)
        out[key] = part[0] if n == 1 and r.random() < 0.8 else nest(r, part, depth + 1)
    if isinstance(out, collections.OrderedDict) and r.random() < 0.5:
        out._metadata = {"": {"version": 1}}
    return out


def module(r):
    m = torch.nn.Sequential(torch.nn.Linear(r.randint(1, 9), 4, bias=r.random() < 0.5), torch.nn.BatchNorm1d(4), torch.nn.Embedding(4, 4),
                            torch.nn.Conv2d(2, 3, 3), torch.nn.Linear(4, 4))
    if r.random() < 0.5:
        m[4].weight = m[2].weight
    if r.random() < 0.5:
        m = m.half()
    if r.random() < 0.3:
        m = m.to(memory_format=torch.channels_last)
    state = m.state_dict()
    return state if r.random() < 0.5 else {"state_dict": state, "epoch": 3, "args": ["x"]}


def walk(value, path, found):
    """Lists the tensors by name, and counts the leaves that are none."""
    if isinstance(value, torch.Tensor):
        name = ".".join(path)
        assert name not in found, name
        found[name] = value
        return 0
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        items = enumerate(value)
    else:
        return 1
    return sum(walk(item, path + [str(key)], found) for key, item in items)


def main(folder, seed, count):
    for i in range(int(count)):
        r = random.Random("%s/%d" % (seed, i))
        torch.manual_seed(r.randrange(1 << 62))
        if i % 10 == 9:
            value = module(r)
        else:
            leaves = tensors(r)
            leaves += [plain(r) for _ in range(r.choice([0, 0, 1, 3]))]
            value = nest(r, leaves, 0)
        how = {"zip": r.random() < 0.6, "protocol": r.randint(2, 5)}
        name = os.path.join(folder, "%d.pt" % i)
        torch.save(value, name, pickle_protocol=how["protocol"], _use_new_zipfile_serialization=how["zip"])
        found, kept, line = {}, {}, {"file": name, "how": how, "tensors": {}, "aliases": {}}
        line["plain"] = walk(value, [], found)
        for key in sorted(found, key=str.encode):
            t = found[key].detach()
            same = (t.storage().data_ptr(), t.storage_offset(), t.shape, t.stride(), t.dtype)
            if t.numel() and key != "format" and kept.setdefault(same, key) != key:
                line["aliases"][key] = kept[same]
            line["tensors"][key] = {"dtype": str(t.dtype)[6:], "shape": list(t.shape), "sha256": hashlib.sha256(raw(t)).hexdigest()}
        print(json.dumps(line))


main(*sys.argv[1:])
