"""Prints what torch loads from checkpoints, one JSON object a line.

usage: tensors.py [--weights-only] FILE[#SUBTREE]...

Each line: {"file", "error"} or {"file", "tensors": {name: {dtype, shape, sha256, ptr}}, "reference", "aliases"}.
The digest is of the row-major little-endian bytes, ptr the address of the first element. Containers are walked; keys
are joined by dots. "reference" is the digest of the safetensors file that these tensors make in the layout of the
reference writer, tensors that are one memory, shape and strides written once under the alphabetically first name, the
others ("aliases", removed -> kept) in the metadata.
Only give it files of one's own making: without --weights-only the real unpickler runs.
"""
import hashlib
import json
import struct
import sys
import types

import torch

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

# safetensors names, from the lowest rank to the highest.
RANKS = ["bool BOOL", "uint8 U8", "int8 I8", "int16 I16", "float16 F16", "bfloat16 BF16", "int32 I32", "float32 F32",
         "complex64 C64", "float64 F64", "int64 I64"]
NAMES = dict(r.split() for r in RANKS)
ORDER = [r.split()[1] for r in RANKS]


def raw(t):
    t = t.detach()
    t = t.resolve_conj().resolve_neg().contiguous()
    if t.numel() == 0:
        return b""
    if t.is_complex():
        t = torch.view_as_real(t)
    return t.reshape(-1).view(INTEGERS[t.element_size()]).numpy().tobytes()


def reference(found):
    """The whole safetensors file, and what was left out of it."""
    kept, aliases = {}, {}
    for name in sorted(found):
        t = found[name]
        same = (t.storage().data_ptr(), t.storage_offset(), t.shape, t.stride(), t.dtype)
        if t.numel() and name != "format" and same in kept:
            aliases[name] = kept[same]
        else:
            kept[same if t.numel() and name != "format" else name] = name
    rows = [(NAMES[str(found[n].dtype)[6:]], n) for n in kept.values()]
    rows.sort(key=lambda r: (-ORDER.index(r[0]), r[1].encode()))
    meta = dict(aliases, format="pt")
    head, data = {"__metadata__": {k: meta[k] for k in sorted(meta)}}, []
    at = 0
    for dtype, name in rows:
        b = raw(found[name])
        head[name] = {"dtype": dtype, "shape": list(found[name].shape), "data_offsets": [at, at + len(b)]}
        data.append(b)
        at += len(b)
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text] + data), aliases


def walk(value, path, out, found, seen):
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, torch.Tensor):
        found[".".join(path)] = value.detach()
        if value.layout != torch.strided or value.is_quantized:
            raise ValueError("not a plain tensor at " + ".".join(path))
        out[".".join(path)] = {
            "dtype": str(value.dtype).replace("torch.", ""),
            "shape": list(value.shape),
            "sha256": hashlib.sha256(raw(value)).hexdigest(),
            "ptr": value.data_ptr(),
        }
        return
    if id(value) in seen:
        return
    seen = seen | {id(value)}
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return
    for key, item in items:
        walk(item, path + [str(key)], out, found, seen)


def stand_in(dotted, name, base=dict):
    """A class that a corpus file names, without the package that has it."""
    parts = dotted.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    setattr(sys.modules[dotted], name, type(name, (base,), {"__module__": dotted}))


def main(args):
    options = {"map_location": "cpu"}
    if args and args[0] == "--weights-only":
        options["weights_only"] = True
        args = args[1:]
    stand_in("pytorch_lightning.utilities.parsing", "AttributeDict")
    stand_in("my_models.net", "Net", torch.nn.Module)
    for name in args:
        name, _, path = name.partition("#")
        line = {"file": name}
        try:
            line["tensors"], found = {}, {}
            value = torch.load(name, **options)
            for key in filter(None, path.split(".")):
                value = value[key]
            walk(value, [], line["tensors"], found, frozenset())
            if all(str(t.dtype)[6:] in NAMES for t in found.values()):
                whole, line["aliases"] = reference(found)
                line["reference"] = hashlib.sha256(whole).hexdigest()
        except Exception as e:  # whatever torch raises is the answer
            line = {"file": name, "error": "%s: %s" % (type(e).__name__, e)}
        print(json.dumps(line))


main(sys.argv[1:])
