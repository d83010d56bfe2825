"""Writes modules and tensors of odd layouts with the real torch, and prints what is in them.

usage: modules.py DIR

One JSON object a line: {"file", "tensors": {name: {dtype, shape, sha256}}}. For modules that is state_dict(), for
quantised and sparse tensors their parts.
"""
import collections
import hashlib
import json
import os
import sys
import types
import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def described(t):
    t = t.detach().contiguous()
    raw = t.reshape(-1).view(INTEGERS[t.element_size()]).numpy().tobytes() if t.numel() else b""
    return {"dtype": str(t.dtype)[6:], "shape": list(t.shape), "sha256": hashlib.sha256(raw).hexdigest()}


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.tied = self.first
        self.second = nn.Linear(3, 5)
        self.second.weight = self.first.weight
        self.plain = torch.arange(4.0)
        self.kept = [torch.ones(2)]
        self.none = None
        self.act = torch.nn.functional.relu
        self.register_buffer("seen", torch.tensor([1, 2, 3]))
        self.register_buffer("scratch", torch.zeros(7), persistent=False)
        self.register_buffer("nothing", None)
        self.register_parameter("no_bias", None)
        self.layers = nn.ModuleList([nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.GRU(3, 4, bidirectional=True)])
        self.table = nn.ModuleDict({"a.b".replace(".", "_"): nn.Embedding(4, 2), "bare": nn.ReLU()})
        self.free = nn.ParameterList([nn.Parameter(torch.rand(2, 2).t()), nn.Parameter(torch.rand(3)[::2])])
        self.short_one = nn.Parameter(torch.rand(3).to(torch.bfloat16))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.register_buffer("count", torch.arange(5))
        self.extra = torch.rand(3)
        self.many = [torch.ones(2), torch.zeros(2)]
        self.flags = [True, False]
        self.names = {"a": 1}

    def forward(self, x):
        return self.body(x) + self.extra.sum()


def module_of(name):
    m = types.ModuleType(name)
    sys.modules[name] = m
    return m


def sequential():
    inner = nn.Linear(4, 4)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), inner, nn.Sequential(inner, nn.PReLU()),
                         nn.MultiheadAttention(4, 2), nn.utils.weight_norm(nn.Linear(4, 2)), nn.LayerNorm(2))


def main(folder):
    def emit(name, value, tensors, save=torch.save, **options):
        save(value, os.path.join(folder, name), **options)
        print(json.dumps({"file": name, "tensors": {k: described(v) for k, v in tensors.items()}}))

    torch.manual_seed(7)
    for cls in (Own, Small):  # of a package that nobody has
        cls.__module__ = "acme_models.net"
        module_of("acme_models")
        setattr(sys.modules.get("acme_models.net") or module_of("acme_models.net"), cls.__name__, cls)
    seq, own = sequential(), Own()
    for protocol in range(2, 6):
        emit("sequential%d.pt" % protocol, seq, seq.state_dict(), pickle_protocol=protocol)
        emit("own%d.pt" % protocol, own, own.state_dict(), pickle_protocol=protocol)
    emit("sequential_legacy.pt", seq, seq.state_dict(), _use_new_zipfile_serialization=False)
    emit("inside.pt", {"epoch": 3, "model": own, "optimizer": None}, own.state_dict())
    emit("list.pt", [own, {"x": torch.ones(1)}],
         dict({"0." + k: v for k, v in own.state_dict().items()}, **{"1.x": torch.ones(1)}))
    emit("parallel.pt", nn.DataParallel(seq), nn.DataParallel(seq).state_dict())
    seq.eval()
    parent = with_parent(Own())
    emit("cycle.pt", parent, parent.state_dict())

    small = Small().eval()
    scripted, traced = torch.jit.script(small), torch.jit.trace(small, torch.rand(2, 3))
    emit("script.pt", scripted, scripted.state_dict(), torch.jit.save)
    emit("trace.pt", traced, traced.state_dict(), torch.jit.save)

    w = torch.rand(4, 6) - 0.5
    tensor = torch.quantize_per_tensor(w, 0.013, -3, torch.qint8)
    unsigned = torch.quantize_per_tensor(w, 0.013, 7, torch.quint8)[:, ::2]
    wide = torch.quantize_per_tensor(w, 0.001, 0, torch.qint32).t()
    channels = torch.quantize_per_channel(w, torch.rand(6).double() + 0.01, torch.arange(6), 1, torch.qint8)
    parts = collections.OrderedDict(w=w)
    for k, t in (("s", tensor), ("u", unsigned), ("wide", wide)):
        parts.update({k: t.int_repr(), k + ".scale": torch.tensor(t.q_scale(), dtype=torch.float64),
                      k + ".zero_point": torch.tensor(t.q_zero_point())})
    parts.update({"c": channels.int_repr(), "c.scale": channels.q_per_channel_scales(),
                  "c.zero_point": channels.q_per_channel_zero_points(), "c.axis": torch.tensor(1)})
    value = {"w": w, "s": tensor, "u": unsigned, "wide": wide, "c": channels}
    emit("quantised.pt", value, parts)
    emit("quantised_legacy.pt", value, parts, _use_new_zipfile_serialization=False)

    coo = torch.sparse_coo_tensor([[0, 2, 0], [1, 1, 1]], torch.rand(3, 2), (3, 4, 2))
    done, csr = coo.coalesce(), torch.eye(4)[:3].to_sparse_csr()
    sparse = {"w": w, "coo": coo, "done": done, "csr": csr}
    emit("sparse.pt", sparse, {
        "w": w, "coo.indices": coo._indices(), "coo.values": coo._values(), "coo.size": torch.tensor(coo.shape),
        "done.indices": done.indices(), "done.values": done.values(), "done.size": torch.tensor(done.shape),
        "csr.crow_indices": csr.crow_indices(), "csr.col_indices": csr.col_indices(), "csr.values": csr.values(),
        "csr.size": torch.tensor(csr.shape)})


def with_parent(m):
    """Every layer knows its parent, but not as a module."""
    for x in list(m.modules()):
        x.__dict__["parent"] = [m]
    return m


main(sys.argv[1])
