"""Loads files with the real unpicklers and torch.load, and prints for each what
they imported: a line of JSON, {"file": ..., "names": [["module", "name"], ...],
"called": [...]}.

The files are the test's own. They name functions of a module of markers, and
whatever else they name must be in the short list below: find_class refuses all
other names before anything is imported.
"""

import _compat_pickle
import gzip
import io
import json
import pickle
import sys
import types

import torch

HARMLESS = {
    ("collections", "OrderedDict"), ("builtins", "range"), ("builtins", "zip"), ("copyreg", "__newobj__"),
    ("copyreg", "_reconstructor"), ("builtins", "object"), ("torch._utils", "_rebuild_tensor_v2"),
    ("torch", "FloatStorage"), ("torch", "Tensor"), ("torch._tensor", "_rebuild_from_type_v2"), ("torch._utils", "_rebuild_parameter"),
}
names, called = set(), []

def function(name):
    def touch(*args, **kwargs):
        called.append(name)
        return Box()

    return touch


class Box:
    pass


class Holder:
    dotted = staticmethod(function("Holder.dotted"))


marker = types.ModuleType("wsmark")
marker.Box, marker.Holder = Box, Holder
marker.__getattr__ = function  # any other name is a function that only notes its call
sys.modules["wsmark"] = marker


def mapped(module, name):
    if (module, name) in _compat_pickle.NAME_MAPPING:
        return _compat_pickle.NAME_MAPPING[(module, name)]
    return _compat_pickle.IMPORT_MAPPING.get(module, module), name


def find_class(self, module, name):
    # Of a name that differs between Python 2 and 3, the mapped one is noted.
    if (module, name) in _compat_pickle.NAME_MAPPING or module in _compat_pickle.IMPORT_MAPPING:
        module, name = mapped(module, name)
    names.add((module, name))
    if module != "wsmark" and (module, name) not in HARMLESS:
        raise pickle.UnpicklingError(f"not loaded: {module}.{name}")
    __import__(module)
    found = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found


class Recorder(pickle.Unpickler):
    find_class = find_class


class PurePython(pickle._Unpickler):
    find_class = find_class


# torch.load takes an argument pickle_module; torch 1.13 does not use it.
recording = types.ModuleType("recording_pickle")
recording.__dict__.update({k: v for k, v in pickle.__dict__.items() if not k.startswith("__")})
recording.Unpickler = Recorder
recording.load = lambda f, **options: Recorder(f, **options).load()
torch.serialization.pickle = recording


def all_streams(unpickler, f):
    while True:
        unpickler(f, encoding="latin1").load()


def loaders(path, data):
    yield lambda: torch.load(path)
    yield lambda: all_streams(Recorder, io.BytesIO(data))
    yield lambda: all_streams(PurePython, io.BytesIO(data))
    if data[:2] == b"\x1f\x8b":
        yield lambda: all_streams(Recorder, gzip.GzipFile(fileobj=io.BytesIO(data)))


def main():
    for path in sys.argv[1:]:
        names.clear()
        called.clear()
        with open(path, "rb") as f:
            data = f.read()
        errors = []
        for load in loaders(path, data):
            try:
                load()
            except Exception as e:
                errors.append(repr(e)[:200])
        print(json.dumps({"file": path, "names": sorted(names), "called": called, "errors": errors}))


main()
