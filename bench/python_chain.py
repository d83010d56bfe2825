#!/usr/bin/env python3
"""What people do today: torch.load, then write safetensors.

    python_chain.py IN.bin OUT.safetensors

Writes the bytes that the reference writer gives for these dtypes: wide dtypes
first, then by name, compact JSON, padded to eight bytes.
"""

import json
import struct
import sys

import torch

NAMES = {torch.float32: "F32", torch.float16: "F16"}


def main():
    source, target = sys.argv[1:]
    state = torch.load(source, map_location="cpu")
    names = sorted(state, key=lambda n: (-state[n].element_size(), n))
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        t = state[name]
        size = t.numel() * t.element_size()
        header[name] = {"dtype": NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            f.write(state[name].contiguous().numpy().data)


main()
