"""Writes HDF5 files into DIR/VERDICT/NAME.h5, with h5py."""
import json
import os
import sys

import h5py
import numpy as np

PICKLE = b"cposix\ngetpid\n)R."
LAMBDA = json.dumps({"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda", "config": {}}]}})
TWICE = '{"class_name": "Sequential", "config": {"layers": [], "layers": []}}'
COMPILED = json.dumps({
    "loss": "mse",
    "metrics": [{"class_name": "MeanMetricWrapper", "config": {"name": "accuracy", "fn": "categorical_accuracy"}}],
    "optimizer_config": {"class_name": "Custom>Adam", "config": {"learning_rate": 0.001}},
})


def many(f):
    for i in range(40):
        f.create_dataset(f"layer_{i}/w", data=np.ones(2, "f4"))
        f.attrs[f"a{i}"] = i


def far(f):
    many(f)
    f["x"] = h5py.ExternalLink("/etc/passwd.h5", "/a")


def dense_lambda(f):
    many(f)
    f.attrs["model_config"] = LAMBDA


def variable(f):
    d = f.create_dataset("x", (2,), dtype=h5py.vlen_dtype("u1"))
    d[1] = np.frombuffer(PICKLE, "u1")


def compact(f):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((len(PICKLE),))
    d = h5py.h5d.create(f.id, b"x", h5py.h5t.NATIVE_UINT8, space, plist)
    d.write(h5py.h5s.ALL, h5py.h5s.ALL, np.frombuffer(PICKLE, "u1").copy())


def bytes_with(**kind):
    return lambda f: f.create_dataset("x", data=np.frombuffer(PICKLE, "u1"), **kind)


def attribute(name, value):
    return lambda f: f.attrs.__setitem__(name, value)


def dataset(data, **kind):
    return lambda f: f.create_dataset("x", data=data, **kind)


FILES = {
    "safe": {
        "many": many,
        "compiled": attribute("training_config", COMPILED),
        "lzf": dataset(np.arange(100, dtype="f4"), compression="lzf"),
        "note": attribute("units", "{m/s}"),
        "strings": dataset([f"w{i}" for i in range(3000)], dtype=h5py.string_dtype()),
        "picture": dataset(np.arange(4096, dtype="u1"), chunks=(64,), compression="gzip"),
    },
    "review": {
        "chunks": bytes_with(chunks=(8,)),
        "gzip": bytes_with(compression="gzip"),
        "lzf_bytes": bytes_with(compression="lzf"),
        "compact": compact,
        "variable": variable,
        "string": dataset(["a", PICKLE.decode()], dtype=h5py.string_dtype()),
        "attribute": attribute("x", np.void(PICKLE)),
        "attribute_text": attribute("x", PICKLE.decode()),
    },
    "unsafe": {
        "far": far,
        "lambda": attribute("model_config", LAMBDA),
        "dense_lambda": dense_lambda,
        "key_twice": attribute("model_config", TWICE),
    },
}

for verdict, files in FILES.items():
    for version in ("earliest", "latest"):
        folder = os.path.join(sys.argv[1], verdict)
        os.makedirs(folder, exist_ok=True)
        for name, fill in files.items():
            with h5py.File(os.path.join(folder, f"{name}_{version}.h5"), "w", libver=version) as f:
                fill(f)
