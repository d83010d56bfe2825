package convert

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/numpy"
	"github.com/weightseal/weightseal/internal/realtools"
)

// TestNumpyCorpus: every file of numpy's family has its oracle's outcome.
func TestNumpyCorpus(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(checkpoints + "/*.oracle.json")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, f := range files {
		var o oracle
		readJSON(t, f, &o)
		switch o.Container {
		case "npy", "npz", "pickle", "joblib":
		default:
			continue
		}
		seen[o.Container+" "+o.Expect]++
		name := strings.TrimSuffix(filepath.Base(f), ".oracle.json")
		if strings.HasPrefix(o.Expect, "convert") {
			checkOracle(t, name, &o, Options{})
			continue
		}
		_, err := planFile(t, filepath.Join(checkpoints, name), Options{})
		var u *format.UnsupportedError
		if !errors.As(err, &u) || u.Next == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	want := map[string]int{"npy convert": 1, "npz convert": 2, "npy reject-file": 1, "pickle convert": 4, "pickle convert-dropping": 1,
		"pickle reject-tensor": 1, "pickle reject-file": 1, "joblib convert": 6, "joblib reject-file": 1}
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("the corpus has %v, want %v", seen, want)
	}
}

func TestPaddleDrops(t *testing.T) {
	t.Parallel()
	p, err := planFile(t, checkpoints+"/paddle.pdparams", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Dropped) != 1 || p.Dropped[0].Path != "StructuredToParameterName@@.encoder.0.w" || p.Dropped[0].Kind != "str" {
		t.Errorf("dropped: %v", p.Dropped)
	}
	if p.Header.Metadata["format"] != "np" {
		t.Errorf("metadata: %v", p.Header.Metadata)
	}
}

// writeArrays makes files with arrays drawn at random, and says of each array
// what numpy itself takes it for.
const writeArrays = `
import sys, json, hashlib, pickle, os, collections
import numpy as np, joblib
out, seed = sys.argv[1], int(sys.argv[2])
rng = np.random.RandomState(seed)
kinds = ['?','i1','i2','i4','i8','u1','u2','u4','u8','f2','f4','f8','c8']
def array():
    k = kinds[rng.randint(len(kinds))]
    shape = tuple(int(n) for n in rng.randint(0, 7, rng.randint(0, 5)))
    if rng.randint(12) == 0: shape = (int(rng.randint(1, 4)), 40000)
    dt = np.dtype(('>' if rng.randint(2) else '<') + k if k not in ('?','i1','u1') else k)
    n = int(np.prod(shape)) * dt.itemsize
    raw = rng.bytes(n) if k != '?' else bytes(rng.randint(0, 2, n).astype('u1'))
    a = np.frombuffer(raw, dtype=dt).reshape(shape).copy()
    if rng.randint(2): a = np.asfortranarray(a) if a.ndim else a
    if rng.randint(4) == 0 and a.ndim > 1: a = a.transpose(rng.permutation(a.ndim))
    if rng.randint(6) == 0 and a.ndim > 0: a = a[::2]
    return a
codes = {'b':'BOOL','i':'I','u':'U','f':'F','c':'C'}
def facts(name, a):
    le = np.ascontiguousarray(a).astype(a.dtype.newbyteorder('<'), copy=False).reshape(a.shape)
    k = a.dtype.kind
    dt = 'BOOL' if k == 'b' else codes[k] + str(a.dtype.itemsize*8)
    return '%s %s [%s] %s' % (name, dt, ' '.join(map(str, a.shape)), hashlib.sha256(le.tobytes('C')).hexdigest())
want = {}
def put(name, tree, write):
    with_path = os.path.join(out, name)
    write(with_path)
    lines = []
    def walk(v, path):
        if isinstance(v, np.ndarray): lines.append(facts('.'.join(path), v))
        elif isinstance(v, dict):
            for k, x in v.items(): walk(x, path + [str(k)])
        elif isinstance(v, (list, tuple)):
            for i, x in enumerate(v): walk(x, path + [str(i)])
    walk(tree, [])
    want[name] = sorted(lines)
for i in range(20):
    flat = {'w%d.x' % k: array() for k in range(rng.randint(1, 8))}
    a = array()
    put('a%d.npy' % i, a, lambda p: np.save(p, a))
    put('s%d.npz' % i, flat, lambda p: np.savez(p, **flat))
    put('z%d.npz' % i, flat, lambda p: np.savez_compressed(p, **flat))
    tree = {'model': collections.OrderedDict(flat), 'list': [array(), (array(), 3)], 7: array(), 'epoch': 3, 'lr': np.float64(.1), 'note': None}
    for p in range(6):
        put('p%d_%d.pkl' % (p, i), tree, lambda f, p=p: pickle.dump(tree, open(f, 'wb'), protocol=p))
    for c in [0, ('zlib', 3), ('gzip', 3), ('bz2', 3), ('xz', 3), ('lzma', 3)]:
        put('j%s%d.joblib' % (c[0] if c else 'raw', i), tree, lambda f, c=c: joblib.dump(tree, f, compress=c))
json.dump(want, open(os.path.join(out, 'want.json'), 'w'))
`

// TestRealNumpy: what numpy and joblib wrote, of arrays drawn at random,
// converts to the bytes that they themselves read.
func TestRealNumpy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(realtools.Python(t), "-c", writeArrays, dir, "20260711")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var want map[string][]string
	readJSON(t, filepath.Join(dir, "want.json"), &want)
	if len(want) != 20*15 {
		t.Fatalf("%d files", len(want))
	}
	for name, lines := range want {
		if slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, "w") && strings.HasPrefix(name, "j") }) {
			t.Fatal("nested names expected")
		}
		p, err := planFile(t, filepath.Join(dir, name), Options{KeepAliases: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, x := range proveAll(t, p, whole(t, p)).Tensors {
			got = append(got, fmt.Sprintf("%s %s %v %s", x.Name, x.DType, x.Shape, x.Digest))
		}
		slices.Sort(got)
		if !slices.Equal(got, lines) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(lines, "\n"))
		}
	}
}

// TestNumpyTies: one array under two names is one tensor.
func TestNumpyTies(t *testing.T) {
	t.Parallel()
	const script = "import sys, pickle, numpy as n; a = n.arange(5.); pickle.dump({'b': a, 'a': a, 'c': a.copy()}, open(sys.argv[1], 'wb'), protocol=int(sys.argv[2]))"
	python := realtools.Python(t)
	for proto := range 6 {
		file := filepath.Join(t.TempDir(), "t.pkl")
		if out, err := exec.Command(python, "-c", script, file, fmt.Sprint(proto)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		p, err := planFile(t, file, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.Aliases, []Alias{{Removed: "b", Kept: "a"}}) || len(p.Header.Tensors) != 2 {
			t.Errorf("protocol %d: %v", proto, p.Aliases)
		}
	}
}

// TestPickleRefused: what no array needs is refused, and nothing is lost in
// silence.
func TestPickleRefused(t *testing.T) {
	t.Parallel()
	plain := "\x80\x02}q\x00X\x01\x00\x00\x00aK\x01s."
	for name, c := range map[string]struct {
		file string
		want any
	}{
		"system":    {"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00idR.", new(*numpy.ForbiddenError)},
		"getattr":   {"\x80\x02cbuiltins\ngetattr\n.", new(*numpy.ForbiddenError)},
		"runstring": {"\x80\x02cnumpy.testing._private.utils\nrunstring\n.", new(*numpy.ForbiddenError)},
		"estimator": {"\x80\x02csklearn.svm._classes\nSVC\n)\x81.", new(*format.UnsupportedError)},
		"both":      {"\x80\x02csklearn.svm._classes\nSVC\n)\x81cos\nsystem\n0.", new(*numpy.ForbiddenError)},
		"none":      {plain, new(*format.UnsupportedError)},
		"two":       {plain + plain, new(*format.UnsupportedError)},
	} {
		file := filepath.Join(t.TempDir(), "x.pkl")
		if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := planFile(t, file, Options{}); !errors.As(err, c.want) {
			t.Errorf("%s: %v, want %T", name, err, c.want)
		}
	}
}
