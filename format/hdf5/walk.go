package hdf5

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
)

// walker collects the tensors below a group.
type walker struct {
	f        *file
	root     int64
	groups   map[int64][]link        // by the address of the header
	data     map[int64]format.Tensor // without a name, by the address of the header
	heaps    map[int64]*cursor
	open     map[int64]bool // groups on the way here
	raw      []span         // where contiguous data lie
	visits   int
	total    int64
	ck       format.Checkpoint
	keras    string // version, as the file's attributes say
	backend  string
	archived bool // named as Keras 3 does
}

func newWalker(f *file) *walker {
	return &walker{
		f: f, groups: map[int64][]link{}, data: map[int64]format.Tensor{},
		heaps: map[int64]*cursor{}, open: map[int64]bool{}, ck: format.Checkpoint{Metadata: map[string]string{}},
	}
}

// run walks what is selected.
func (w *walker) run(root int64) error {
	w.root = root
	start, path := root, strings.Trim(w.f.opt.Select, "/")
	if path == "." {
		path = ""
	}
	name := ""
	if path != "" {
		steps := mostLinks
		var err error
		if start, err = w.lookup(root, path, &steps); err != nil && !errors.Is(err, errLoop) {
			return err
		}
		if start == undefined || err != nil {
			w.f.where = path
			return w.f.unsupported("choose a group that is there", "no group or dataset of this name")
		}
		if o, err := w.object(start, path); err != nil {
			return err
		} else if o.isDataset() {
			name = path[strings.LastIndexByte(path, '/')+1:]
		}
	}
	return w.walk(start, name)
}

func (w *walker) object(addr int64, path string) (*object, error) {
	w.f.where = path
	return w.f.object(addr)
}

// walk takes the object at an address, which path leads to.
func (w *walker) walk(addr int64, path string) error {
	f := w.f
	f.where = path
	if w.visits++; w.visits > f.lim.Objects {
		return f.bad(addr, "more than %d objects", f.lim.Objects)
	}
	if w.open[addr] {
		w.drop(path, "link", "leads back to a group that it lies in")
		return nil
	}
	if t, ok := w.data[addr]; ok {
		return w.add(path, t)
	}
	o, err := w.object(addr, path)
	if err != nil {
		return err
	}
	switch {
	case o.isDataset():
		return w.dataset(o, path)
	case o.isGroup():
		return w.group(o, path)
	case o.find(msgDatatype) != nil:
		w.drop(path, "datatype", "holds no data")
		return nil
	}
	return f.bad(addr, "an object that is neither a group nor a dataset")
}

func (w *walker) drop(path, kind, reason string) {
	w.ck.Dropped = append(w.ck.Dropped, format.Dropped{Path: path, Kind: kind, Reason: reason})
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}

// group takes the links of a group.
func (w *walker) group(o *object, path string) error {
	f := w.f
	if len(w.open) >= f.lim.Depth {
		return f.bad(o.addr, "more than %d groups in each other", f.lim.Depth)
	}
	links, err := w.links(o)
	if err != nil {
		return err
	}
	if _, err := w.attributes(o, path); err != nil {
		return err
	}
	w.open[o.addr] = true
	defer delete(w.open, o.addr)
	for i := range links {
		if err := w.follow(&links[i], o.addr, join(path, links[i].name)); err != nil {
			return err
		}
	}
	return nil
}

// links gives the links of a group, each group read once.
func (w *walker) links(o *object) ([]link, error) {
	if all, ok := w.groups[o.addr]; ok {
		return all, nil
	}
	all, err := w.f.group(o)
	if err == nil {
		slices.SortFunc(all, func(a, b link) int { return cmp.Compare(a.name, b.name) })
		w.groups[o.addr] = all
	}
	return all, err
}

// follow takes what a link leads to.
func (w *walker) follow(l *link, from int64, path string) error {
	w.f.where = path
	addr := l.addr
	switch l.kind {
	case softLink:
		steps := mostLinks
		var err error
		addr, err = w.lookup(from, l.target, &steps)
		switch {
		case errors.Is(err, errLoop):
			w.drop(path, "soft link", "leads back to itself")
			return nil
		case err != nil:
			return err
		case addr == undefined:
			w.drop(path, "soft link", "leads to nothing")
			return nil
		}
	case farLink:
		return w.far()
	}
	if w.f.opt.Select == "" && (path == "optimizer_weights" || path == "optimizer") {
		o, err := w.object(addr, path)
		if err != nil {
			return err
		}
		if o.isGroup() {
			w.drop(path, "optimizer state", "is for going on with the training")
			return nil
		}
	}
	return w.walk(addr, path)
}

func (w *walker) far() error {
	return w.f.unsupported(nextCopy, "link to another file, or of a kind of its own")
}

// mostLinks is how many soft links may lead to each other: the library's own
// bound (H5Pset_nlinks).
const mostLinks = 16

var errLoop = errors.New("links that lead to each other without end")

// lookup finds the object that a path leads to from a group; undefined where
// there is none. steps is how many soft links may be followed.
func (w *walker) lookup(from int64, path string, steps *int) (int64, error) {
	if strings.HasPrefix(path, "/") {
		from = w.root
	}
	for _, part := range strings.Split(path, "/") {
		if part == "" || part == "." {
			continue
		}
		o, err := w.f.object(from)
		if err != nil {
			return undefined, err
		}
		links, err := w.links(o)
		if err != nil {
			return undefined, err
		}
		i, ok := slices.BinarySearchFunc(links, part, func(l link, name string) int { return cmp.Compare(l.name, name) })
		if !ok {
			return undefined, nil
		}
		switch l := &links[i]; l.kind {
		case hardLink:
			from = l.addr
		case softLink:
			if *steps--; *steps < 0 {
				return undefined, errLoop
			}
			if from, err = w.lookup(from, l.target, steps); err != nil || from == undefined {
				return undefined, err
			}
		default:
			return undefined, w.far()
		}
	}
	return from, nil
}

// dataset takes a dataset.
func (w *walker) dataset(o *object, path string) error {
	f := w.f
	d, err := f.dataset(o)
	if err != nil {
		return err
	}
	attrs, err := w.attributes(o, path)
	if err != nil {
		return err
	}
	if d.space.null {
		w.drop(path, "empty dataspace", "has no elements and no shape")
		return nil
	}
	if d.typ.class == classOpaque && d.typ.size == 2 && attrs["dtype"] == "bfloat16" {
		d.typ.dtype = safetensors.BF16 // as Keras 3 writes it
	}
	dtype, err := d.storable()
	if err != nil {
		return err
	}
	st, err := w.storage(d, path)
	if err != nil {
		return err
	}
	t := format.Tensor{DType: dtype, Size: d.space.dims, Stride: format.RowMajor(d.space.dims), Swap: d.typ.swap, Storage: st}
	for _, n := range d.space.dims {
		t.Shape = append(t.Shape, uint64(n))
	}
	w.data[o.addr] = t
	return w.add(path, t)
}

// add takes a tensor under a name.
func (w *walker) add(path string, t format.Tensor) error {
	f := w.f
	f.where = path
	if w.total += t.Storage.Length; w.total > f.lim.Total {
		return f.unsupported("take a part of it: --select GROUP", "file whose datasets become more than %d bytes", f.lim.Total)
	}
	t.Name = path
	w.ck.Tensors = append(w.ck.Tensors, t)
	parts := strings.Split(path, "/")
	w.archived = w.archived || len(parts) > 1 && parts[len(parts)-2] == "vars"
	return nil
}

// storage gives the bytes of a dataset.
func (w *walker) storage(d *dataset, path string) (*format.Storage, error) {
	f := w.f
	st := &format.Storage{Length: d.bytes, Offset: -1, Key: path}
	if d.bytes == 0 {
		st.Data = strings.NewReader("")
		return st, nil
	}
	if d.bytes > f.lim.Total {
		return nil, f.unsupported("take a part of it: --select GROUP", "dataset of %d bytes in a file of %d", d.bytes, f.size)
	}
	if d.layout.class != layoutChunked && d.layout.addr != undefined {
		if f.opt.origin >= 0 {
			st.Offset = f.opt.origin + f.base + d.layout.addr
		}
		st.Data = io.NewSectionReader(f.r, f.base+d.layout.addr, d.bytes)
		w.raw = append(w.raw, span{d.layout.addr, d.bytes})
		return st, nil
	}
	c, err := d.data()
	st.Data = c
	return st, err
}

// checkpoint finishes.
func (w *walker) checkpoint() (*format.Checkpoint, error) {
	f := w.f
	f.where = ""
	slices.SortFunc(w.raw, func(a, b span) int { return cmp.Compare(a.addr, b.addr) })
	for i := 1; i < len(w.raw); i++ {
		if a := w.raw[i-1]; a.addr+a.size > w.raw[i].addr {
			return nil, f.bad(w.raw[i].addr, "two datasets whose data overlap")
		}
	}
	if len(w.ck.Tensors) == 0 {
		return nil, f.unsupported(nextSelect, "file without datasets, but for what is left out")
	}
	w.ck.Framework = w.framework()
	return &w.ck, nil
}

// framework is what wrote the weights: "keras" for Keras 3, "tf" for the Keras
// of TensorFlow, which is what Transformers calls its files; "" for none of
// them.
func (w *walker) framework() string {
	switch {
	case w.f.opt.keras:
		return "keras"
	case strings.HasPrefix(w.keras, "1.") || strings.HasPrefix(w.keras, "2."), w.keras == "" && w.backend == "tensorflow":
		return "tf"
	case w.keras != "", w.backend != "", w.archived:
		return "keras"
	}
	return ""
}
