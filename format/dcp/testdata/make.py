"""Writes distributed checkpoints as torch.distributed.checkpoint does.

The blobs are written by torch.save; the metadata is pickled by Python from
dataclasses that carry the names of torch.distributed.checkpoint, so that it
works with a torch that has no such module. usage: make.py OUT
"""
import dataclasses, enum, hashlib, io, json, os, pickle, sys, types
from typing import Any
import torch

META = "torch.distributed.checkpoint.metadata"
FILE = "torch.distributed.checkpoint.filesystem"


def module(name):
    return sys.modules.setdefault(name, types.ModuleType(name))


def own(name):
    def mark(cls):
        cls.__module__, cls.__qualname__ = name, cls.__name__
        setattr(module(name), cls.__name__, cls)
        return cls
    return mark


@own(META)
@dataclasses.dataclass
class ChunkStorageMetadata:
    offsets: torch.Size
    sizes: torch.Size


@own(META)
class _MEM_FORMAT_ENCODING(enum.Enum):
    TORCH_CONTIGUOUS_FORMAT = 0
    TORCH_CHANNELS_LAST = 1
    TORCH_PRESERVE_FORMAT = 2

    def __reduce_ex__(self, proto):
        return self.__class__, (self._value_,)


@own(META)
@dataclasses.dataclass
class TensorProperties:
    dtype: Any
    layout: Any = torch.strided
    requires_grad: bool = False
    memory_format: Any = None
    pin_memory: bool = False

    def __getstate__(self):
        return (self.dtype, self.layout, self.requires_grad, _MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT, self.pin_memory)


@own(META)
@dataclasses.dataclass
class TensorStorageMetadata:
    properties: TensorProperties
    size: torch.Size
    chunks: list


@own(META)
@dataclasses.dataclass
class BytesStorageMetadata:
    pass


@own(META)
@dataclasses.dataclass
class StorageMeta:
    checkpoint_id: Any = None
    save_id: Any = None
    load_id: Any = None
    modules: list = dataclasses.field(default_factory=list)


@own(META)
@dataclasses.dataclass
class Metadata:
    state_dict_metadata: dict
    planner_data: Any = None
    storage_data: Any = None
    storage_meta: Any = None
    version: Any = None


@own(META)
@dataclasses.dataclass(frozen=True)
class MetadataIndex:
    fqn: str
    offset: Any = None
    index: Any = dataclasses.field(hash=False, compare=False, default=None)


@own(FILE)
@dataclasses.dataclass
class _StorageInfo:
    relative_path: str
    offset: int
    length: int
    transform_descriptors: Any = None

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if v is not None}


def flatten(tree, path=()):
    if isinstance(tree, dict) and tree:
        for k, v in tree.items():
            yield from flatten(v, path + (k,))
    elif isinstance(tree, list) and any(isinstance(v, (torch.Tensor, dict, list)) for v in tree):
        for i, v in enumerate(tree):
            yield from flatten(v, path + (i,))
    else:
        yield path, tree


def boxes(shape, grid):
    """The chunks of a tensor, as torch.chunk cuts each dimension."""
    out = [((), ())]
    for n, parts in zip(shape, grid):
        step = max(1, -(-n // parts))
        cuts = [(o, min(step, n - o)) for o in range(0, n, step)] or [(0, 0)]
        out = [(a + (o,), b + (s,)) for a, b in out for o, s in cuts]
    return out


def write(folder, tree, ranks, grid, proto=4, planner=True, old=False):
    """grid gives the cuts of a tensor by its name and shape."""
    os.makedirs(folder, exist_ok=True)
    files = [io.BytesIO() for _ in range(ranks)]
    state, mappings, storage, oracle = {}, {}, {}, {}

    def put(rank, index, obj):
        at = files[rank].tell()
        buf = io.BytesIO()
        torch.save(obj, buf)
        files[rank].write(buf.getbuffer())
        storage[index] = _StorageInfo("__%d_0.distcp" % rank, at, files[rank].tell() - at)

    for turn, (path, v) in enumerate(flatten(tree)):
        fqn = ".".join(map(str, path))
        mappings[fqn] = path
        if not isinstance(v, torch.Tensor):
            state[fqn] = BytesStorageMetadata()
            put(0, MetadataIndex(fqn), v)
            continue
        chunks = []
        for i, (offsets, sizes) in enumerate(boxes(v.shape, grid(fqn, v))):
            part = v
            for d, (o, s) in enumerate(zip(offsets, sizes)):
                part = part.narrow(d, o, s)
            if part.storage_offset() or part.numel() != v.numel() or part.storage().size() != part.numel():
                part = part.clone()
            put((turn + i) % ranks if len(sizes) == 0 else i % ranks, MetadataIndex(fqn, torch.Size(offsets), i), part)
            chunks.append(ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)))
        state[fqn] = TensorStorageMetadata(TensorProperties(v.dtype), v.size(), chunks)
        raw = bytes(v.detach().contiguous().view(-1).view(torch.uint8).numpy()) if v.numel() and v.dim() else bytes(
            v.detach().reshape(1).view(torch.uint8).numpy()) if v.numel() else b""
        oracle[fqn] = {"dtype": str(v.dtype)[6:], "shape": list(v.shape), "sha256": hashlib.sha256(raw).hexdigest()}
    meta = Metadata(state, mappings if planner else None, storage)
    if not old:
        meta.storage_meta, meta.version = StorageMeta("checkpoints/step-100", "5ee4ad5c-5d2c-4f2c-9d7e-dc6b2a0a7e11"), "1.0.0"
    else:
        del meta.storage_meta, meta.version
    for i, f in enumerate(files):
        open(os.path.join(folder, "__%d_0.distcp" % i), "wb").write(f.getvalue())
    pickle.dump(meta, open(os.path.join(folder, ".metadata"), "wb"), protocol=proto)
    json.dump(oracle, open(folder.rstrip("/") + ".oracle.json", "w"), indent=1, sort_keys=True)


def main(out):
    torch.manual_seed(1)
    weights = {
        "embed.weight": torch.randn(37, 8),
        "layers.0.attn.weight": torch.randn(16, 12).to(torch.bfloat16),
        "layers.0.attn.bias": torch.randn(16).half(),
        "layers.0.norm.weight": torch.full((5,), float("nan")),
        "conv.weight": torch.randn(6, 5, 4, 3),
        "transposed": torch.arange(60, dtype=torch.int32).view(6, 10).t(),
        "scalar": torch.tensor(7, dtype=torch.int64),
        "empty": torch.zeros(0, 4),
        "mask": torch.tensor([True, False, True]),
    }
    rows = lambda fqn, v: (3,) + (1,) * (v.dim() - 1)
    every = lambda fqn, v: (2, 3, 2, 2)[:v.dim()]
    write(out + "/fsdp", {"model": weights}, 3, rows)
    write(out + "/flat", weights, 3, rows, planner=False, old=True, proto=2)
    write(out + "/grid", weights, 4, every)
    write(out + "/train", {
        "model": {"weight": torch.randn(4, 4), "bias": torch.randn(4)},
        "optim": {"state": {"0": {"exp_avg": torch.randn(4, 4), "step": 3}}, "param_groups": [{"lr": 0.1}]},
        "step": 100,
    }, 2, rows)


main(sys.argv[1])
