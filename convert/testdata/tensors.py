"""Prints what torch loads from checkpoints, one JSON object a line.

usage: tensors.py [--weights-only] FILE...

Each line: {"file", "error"} or {"file", "tensors": {name: {dtype, shape, sha256, ptr}}}. The digest is of the
row-major little-endian bytes, ptr the address of the first element. Containers are walked; keys are joined by dots.
Only give it files of one's own making: without --weights-only the real unpickler runs.
"""
import hashlib
import json
import sys
import types

import torch

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def raw(t):
    t = t.detach()
    t = t.resolve_conj().resolve_neg().contiguous()
    if t.numel() == 0:
        return b""
    if t.is_complex():
        t = torch.view_as_real(t)
    return t.reshape(-1).view(INTEGERS[t.element_size()]).numpy().tobytes()


def walk(value, path, out, seen):
    if isinstance(value, torch.Tensor):
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
        walk(item, path + [str(key)], out, seen)


def stand_in(dotted, name):
    """A class that a corpus file names, without the package that has it."""
    parts = dotted.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    setattr(sys.modules[dotted], name, type(name, (dict,), {}))


def main(args):
    options = {"map_location": "cpu"}
    if args and args[0] == "--weights-only":
        options["weights_only"] = True
        args = args[1:]
    stand_in("pytorch_lightning.utilities.parsing", "AttributeDict")
    for name in args:
        line = {"file": name}
        try:
            line["tensors"] = {}
            walk(torch.load(name, **options), [], line["tensors"], frozenset())
        except Exception as e:  # whatever torch raises is the answer
            line = {"file": name, "error": "%s: %s" % (type(e).__name__, e)}
        print(json.dumps(line))


main(sys.argv[1:])
