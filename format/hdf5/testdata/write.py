"""Writes HDF5 files with h5py into a folder, and beside each NAME.h5 what h5py
reads from it: NAME.json, with dtype, shape and SHA-256 of every dataset by path."""

import hashlib
import json
import os
import sys

import h5py
import numpy as np

out = sys.argv[1]
rng = np.random.default_rng(5)
NAMES = {"|b1": "BOOL", "|i1": "I8", "|u1": "U8", "<i2": "I16", "<u2": "U16", "<i4": "I32", "<u4": "U32", "<i8": "I64",
         "<u8": "U64", "<f2": "F16", "<f4": "F32", "<f8": "F64", "<c8": "C64"}


def some(dtype, shape):
    """Bytes at random, so that there are NaNs of all kinds."""
    dtype = np.dtype(dtype)
    n = int(np.prod(shape))
    if dtype == bool:
        return rng.integers(0, 2, n).astype(bool).reshape(shape)
    return np.frombuffer(rng.bytes(n * dtype.itemsize), dtype).reshape(shape)


def walk(group, path, found):
    for key in group:
        try:
            o = group[key]
        except KeyError:
            continue  # a link that leads nowhere
        p = path + "/" + key if path else key
        if isinstance(o, h5py.Group):
            if not (p + "/").startswith(("loop/", "optimizer")):
                walk(o, p, found)
        elif isinstance(o, h5py.Dataset) and o.shape is not None:
            a = o[()]
            a = np.ascontiguousarray(np.asarray(a).astype(np.asarray(a).dtype.newbyteorder("<"), copy=False))
            a = a.reshape(o.shape)
            if o.dtype.byteorder == ">":
                a = np.frombuffer(np.asarray(o[()]).byteswap().tobytes(), o.dtype.newbyteorder("<")).reshape(o.shape)
            name = a.dtype.str
            name = NAMES.get(name, "BF16" if name == "|V2" else name)
            found[p] = {"dtype": name, "shape": list(a.shape), "sha256": hashlib.sha256(a.tobytes()).hexdigest()}


def write(name, fill, **args):
    path = os.path.join(out, name + ".h5")
    with h5py.File(path, "w", **args) as f:
        fill(f)
    found = {}
    with h5py.File(path, "r") as f:
        walk(f, "", found)
    with open(os.path.join(out, name + ".json"), "w") as f:
        json.dump(found, f)


def dtypes(f):
    for order in "<>":
        for d in ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8"]:
            f.create_dataset(("big/" if order == ">" else "little/") + d, data=some(order + d, (3, 5)))
    f["bool"] = some(bool, (17,))
    f["scalar"] = np.float32(2.5)
    f["bools"] = np.True_
    f["none/zero"] = np.zeros((0, 4), "f4")
    f["none/zeros"] = np.zeros((3, 0), "i8")
    f["null"] = h5py.Empty("f4")
    d = f.create_dataset("brain", data=some("V2", (4, 3)))
    d.attrs["dtype"] = "bfloat16"
    dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    dcpl.set_layout(h5py.h5d.COMPACT)
    a = some("f4", (5, 7))
    h5py.h5d.create(f.id, b"compact", h5py.h5t.py_create(a.dtype), h5py.h5s.create_simple(a.shape), dcpl).write(h5py.h5s.ALL, h5py.h5s.ALL, a)


def chunks(f):
    shapes = [((1,), (1,)), ((10,), (3,)), ((200,), (7,)), ((17, 19), (5, 4)), ((17, 19), (5, 19)), ((17, 19), (17, 6)), ((9, 8, 7), (2, 3, 4)),
              ((9, 8, 7), (2, 8, 7)), ((9, 8, 7), (4, 3, 7)), ((5, 4, 3, 2), (2, 3, 2, 1)), ((64, 64), (64, 64)), ((70, 64), (64, 64)), ((300, 2), (1, 1))]
    for i, (shape, chunk) in enumerate(shapes):
        for k, kw in enumerate([{}, {"compression": "gzip"}, {"shuffle": True}, {"compression": "gzip", "shuffle": True, "fletcher32": True},
                                {"fletcher32": True}, {"fillvalue": 7, "compression": 9}]):
            dtype = [">i4", "<f4", "<i2", "<f8", "<u1", "<c8"][k]
            if k == 5:
                dtype = ">f4"
            f.create_dataset(f"c{i}_{k}", data=some(dtype, shape), chunks=chunk, **kw)
            f.create_dataset(f"u{i}_{k}", data=some(dtype, shape), chunks=chunk, maxshape=(None,) + shape[1:], **kw)
            f.create_dataset(f"w{i}_{k}", data=some(dtype, shape), chunks=chunk, maxshape=tuple(2 * n + 3 for n in shape), **kw)
            f.create_dataset(f"a{i}_{k}", data=some(dtype, shape), chunks=chunk, maxshape=tuple(None for n in shape), **kw)
            if len(shape) > 1:
                f.create_dataset(f"l{i}_{k}", data=some(dtype, shape), chunks=chunk, maxshape=shape[:-1] + (None,), **kw)


def sparse(f):
    """Chunks that were never written, datasets that grew and shrank."""
    for i, most in enumerate([None, (100, 90), (None, 90), (None, None), (100, None)]):
        for k, kw in enumerate([{}, {"compression": "gzip", "shuffle": True}]):
            d = f.create_dataset(f"s{i}_{k}", (100, 90), ">f4", chunks=(7, 11), maxshape=most, fillvalue=1.5, **kw)
            d[20:23, 40:60] = 3
            d[99, 89] = 4
            if most and None in most:
                d = f.create_dataset(f"g{i}_{k}", data=some("i4", (50, 60)), chunks=(7, 11), maxshape=most, fillvalue=-3, **kw)
                d.resize((23, 60) if most[0] is None else (50, 23))
                d.resize((99, 60) if most[0] is None else (50, 80))
                if most[0] is None:
                    d[98] = 9
    f.create_dataset("unwritten", (4, 5), "f8", fillvalue=0.25)
    f.create_dataset("unfilled", (4, 5), "f8")
    f.create_dataset("none", (40, 50), "f8", chunks=(3, 3), fillvalue=9)


def early(f):
    """Chunks that are allocated from the start lie one after the other."""
    for i, (shape, chunk) in enumerate([((30, 20), (7, 6)), ((100,), (9,))]):
        dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        dcpl.set_chunk(chunk)
        dcpl.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        a = some("f4", shape)
        space = h5py.h5s.create_simple(shape, tuple(n + 9 for n in shape))
        h5py.h5d.create(f.id, b"early%d" % i, h5py.h5t.py_create(a.dtype), space, dcpl).write(h5py.h5s.ALL, h5py.h5s.ALL, a)


def many(f):
    """Groups with many links, objects with many attributes."""
    for i in range(200):
        f[f"wide/layer_{i}/w"] = some("f4", (3,))
    g = f
    for i in range(40):
        g = g.create_group(f"level{i}")
    g["bottom"] = some("f2", (9,))
    g = f.create_group("ordered", track_order=True)
    for i in range(300):
        g[f"{299 - i}"] = some("i1", (i % 5,))
        g.attrs[f"attribute {i}"] = "x" * (i * 7 % 100)
    for i in range(100):
        g["1"].attrs[f"number {i}"] = i
    for i in range(20):
        f.attrs[f"a{i}"] = [f"{i}", i, i / 2, np.arange(i), bool(i % 2), ["a", "b"], np.bytes_("fixed")][i % 7]


def paged(f):
    """Enough chunks for pages and for many blocks of an index."""
    f.create_dataset("fixed", data=some("i1", (2600,)), chunks=(1,))
    f.create_dataset("fixed_z", data=some("i1", (2600,)), chunks=(1,), compression="gzip")
    for i, kw in enumerate([{}, {"fletcher32": True}]):
        f.create_dataset(f"grows{i}", data=some("i2", (9000,)), chunks=(1,), maxshape=(None,), **kw)
        f.create_dataset(f"both{i}", data=some("i2", (40, 30)), chunks=(1, 1), maxshape=(None, None), **kw)
        d = f.create_dataset(f"far{i}", (300000,), "i2", chunks=(2,), maxshape=(None,), fillvalue=5, **kw)
        d[299990:] = 8
        d[70000:70010] = 6
        d = f.create_dataset(f"farfixed{i}", (300000,), "i2", chunks=(2,), fillvalue=5, **kw)
        d[299990:] = 8
        d[70000:70010] = 6


def links(f):
    f["a/x"] = some("f4", (4, 4))
    f["a/same"] = f["a/x"]
    f["b/tied"] = f["a/x"]
    f["soft"] = h5py.SoftLink("/a/x")
    f["b/relative"] = h5py.SoftLink("tied")
    f["group"] = h5py.SoftLink("a")
    f["through"] = h5py.SoftLink("/group/./x")
    f["dangling"] = h5py.SoftLink("/no/where")
    f["loop/one"] = h5py.SoftLink("/loop/two")
    f["loop/two"] = h5py.SoftLink("/loop/one")
    f["loop/up"] = f["loop"]


def keras2(f):
    f.attrs["keras_version"], f.attrs["backend"], f.attrs["model_config"] = "2.11.0", "tensorflow", '{"class_name": "Sequential"}'
    g = f.create_group("model_weights")
    g.attrs["layer_names"] = [b"dense"]
    g["dense/dense/kernel:0"] = some("f4", (4, 3))
    g["dense/dense/bias:0"] = some("f4", (3,))
    f["optimizer_weights/Adam/iter:0"] = np.int64(3)


def keras3(f):
    f["layers/dense/vars/0"] = some("f4", (4, 3))
    f["layers/dense/vars/1"] = some("f4", (3,))
    f.create_group("vars")
    f["optimizer/vars/0"] = np.int64(3)


def seed(f):
    """Something of everything, small: testdata/seed_*.h5, for damaging."""
    f.attrs["keras_version"], f.attrs["n"] = "3.1.0", 7
    a = some("<f4", (7, 5))
    f["a"] = a
    f["tied"] = f["a"]
    f["soft"] = h5py.SoftLink("/a")
    for i in range(12):
        f[f"wide/{i}"] = np.int8(i)
        f["a"].attrs[f"attribute {i}"] = f"{i}"
    for name, most in [("fixed", (7, 5)), ("grows", (None, 5)), ("both", (None, None))]:
        f.create_dataset(name, data=a, chunks=(3, 2), maxshape=most)
        f.create_dataset(name + "_z", data=a, chunks=(3, 2), maxshape=most, compression="gzip", shuffle=True, fletcher32=True)
    f.create_dataset("single", data=a, chunks=(7, 5), compression="gzip")
    f.create_dataset("paged", data=some("i1", (2100,)), chunks=(2,))
    early(f)


for libver in ["earliest", "latest", ("v108", "v108")]:
    tag = libver if isinstance(libver, str) else "_".join(libver)
    for fill in [dtypes, chunks, sparse, early, many, paged, links, keras2, keras3, seed]:
        write(f"{fill.__name__}_{tag}", fill, libver=libver)
write("userblock", keras3, userblock_size=1024)
write("ordered", many, track_order=True)
