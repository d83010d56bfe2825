#!/usr/bin/env python3
"""Write a state dict of random weights with torch.save.

    make_model.py FILE SIZE_MB

It has 32 tensors of SIZE_MB/32 each, float32 and float16 in turns, as a
mixed-precision model has them: the order in the file is not the order of the
converted file, which has all float32 tensors first.
"""

import sys
from collections import OrderedDict

import torch


def state_dict(megabytes):
    torch.manual_seed(1)
    size = megabytes * 1024 * 1024 // 32
    state = OrderedDict()
    for i in range(16):
        state[f"model.layers.{i}.mlp.weight"] = torch.rand(size // 4 // 1024, 1024)
        state[f"model.layers.{i}.attn.weight"] = torch.rand(size // 2 // 1024, 1024).to(torch.float16)
    return state


if __name__ == "__main__":
    torch.save(state_dict(int(sys.argv[2])), sys.argv[1])
