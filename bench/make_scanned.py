#!/usr/bin/env python3
"""Write what the rows of the scanner need.

    make_scanned.py FOLDER SIZE_MB

    FOLDER/legacy/pytorch_model.bin   the state dict of make_model.py in the layout before PyTorch 1.6
    FOLDER/floats.pkl                 63 MB of opcodes: a list of 7 million numbers
    FOLDER/many                       5,000 files: safetensors, checkpoints, JSON, pickles in turns
"""

import json
import os
import pickle
import random
import struct
import sys

import torch
from make_model import state_dict

MILLIONS = 7
FILES = 5000


def floats(path):
    random.seed(1)
    values = [random.random() for _ in range(1_000_000)] * MILLIONS
    with open(path, "wb") as f:
        pickle.dump(values, f, protocol=2)


def shard(path):
    header = json.dumps({f"w{i}": {"dtype": "F32", "shape": [256], "data_offsets": [1024 * i, 1024 * (i + 1)]} for i in range(64)})
    header += " " * (-len(header) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header.encode())
        f.truncate(8 + len(header) + 64 * 1024)


def many(folder):
    os.makedirs(folder)
    state = {f"layer{i}.weight": torch.rand(16, 16) for i in range(16)}
    config = {"hidden_size": 768, "vocab": [f"token{i}" for i in range(200)]}
    for i in range(0, FILES, 4):
        name = os.path.join(folder, f"{i:04}")
        shard(name + ".safetensors")
        torch.save(state, name + ".pt")
        with open(name + ".json", "w") as f:
            json.dump(config, f)
        with open(name + ".pkl", "wb") as f:
            pickle.dump([float(n) for n in range(200)], f)


def main():
    folder, megabytes = sys.argv[1], int(sys.argv[2])
    os.makedirs(os.path.join(folder, "legacy"))
    torch.save(state_dict(megabytes), os.path.join(folder, "legacy", "pytorch_model.bin"), _use_new_zipfile_serialization=False)
    floats(os.path.join(folder, "floats.pkl"))
    many(os.path.join(folder, "many"))


main()
