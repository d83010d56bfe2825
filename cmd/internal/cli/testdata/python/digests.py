"""Prints a line for each tensor of a file: digest of its row-major bytes, dtype,
shape, name, sorted by name. Checkpoints are read by torch itself, safetensors by the
few lines below, so that the two roads share nothing."""
import hashlib
import json
import struct
import sys

NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
         "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL", "complex64": "C64"}


def from_torch(path):
    import torch
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, t in state.items():
        flat = t.detach().contiguous().reshape(-1)
        if flat.dtype == torch.complex64:
            flat = torch.view_as_real(flat).reshape(-1)
        raw = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        yield name, NAMES[str(t.dtype).split(".")[1]], list(t.shape), raw


def from_safetensors(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__", {})
    found = {}
    for name, t in header.items():
        begin, end = (8 + size + o for o in t["data_offsets"])
        found[name] = (t["dtype"], t["shape"], data[begin:end])
    for removed, kept in metadata.items():
        if removed != "format" and kept in found:
            found[removed] = found[kept]
    for name, t in found.items():
        yield (name, *t)


reader = from_safetensors if sys.argv[1].endswith(".safetensors") else from_torch
for name, dtype, shape, raw in sorted(reader(sys.argv[1])):
    print(hashlib.sha256(raw).hexdigest(), dtype, shape, json.dumps(name))
