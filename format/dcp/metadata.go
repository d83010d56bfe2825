package dcp

import (
	"bytes"
	"fmt"
	"io"
	"math/bits"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

// Metadata is what .metadata says.
type Metadata struct {
	Tensors []Tensor // in the order of the pickle
	Objects []Object // what is no tensor
}

// Tensor is a tensor of the checkpoint.
type Tensor struct {
	Name   string   // with its keys joined by dots
	Path   []string // the keys
	DType  string   // of torch: "float32"
	Size   []int64
	Chunks []Chunk

	planned bool // Path is the planner's, and not the name cut at its dots
}

// Object is an entry that is no tensor: a pickle in a blob.
type Object struct {
	Name  string
	Path  []string
	Place Place
}

// Chunk is a box of a tensor.
type Chunk struct {
	Offset, Size []int64
	Place        Place
}

// Place is where a blob lies.
type Place struct {
	File           string // relative to the metadata
	Offset, Length int64
}

// IsMetadata says whether a file begins as the metadata does: a pickle whose
// first names are of torch.distributed.checkpoint.
func IsMetadata(r io.ReaderAt, size int64) bool {
	head := make([]byte, min(max(size, 0), 256))
	if n, _ := r.ReadAt(head, 0); n < len(head) || len(head) == 0 || head[0] != 0x80 {
		return false
	}
	return bytes.Contains(head, []byte(metadataModule))
}

// ReadMetadata reads a .metadata file. It gives a *format.Error or a
// *pickle.Error for what is broken or names what metadata does not, and a
// *format.UnsupportedError for what cannot be converted.
func ReadMetadata(r io.ReaderAt, size int64, lim Limits) (*Metadata, error) {
	s, err := pickle.Load(r, 0, size, lim.Torch.Pickle)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", name, MetadataName, err)
	}
	if s.End != size {
		return nil, brokenAt(s.End, fmt.Sprintf("%d bytes follow the pickle", size-s.End))
	}
	if err := Check(s); err != nil {
		return nil, err
	}
	d := &reader{lim: lim.defaults()}
	return d.metadata(s.Root)
}

// reader turns the object graph into Metadata.
type reader struct {
	lim    Limits
	chunks int
	places map[string]Place // by fqn and offset
	paths  map[string][]string
}

func (d *reader) metadata(v pickle.Value) (*Metadata, error) {
	f, err := fieldsOf(v, metadataModule, "Metadata")
	if err != nil {
		return nil, err
	}
	entries, ok := f["state_dict_metadata"].(*pickle.Dict)
	if !ok {
		return nil, broken("state_dict_metadata", "is no dictionary")
	}
	if err := d.storage(f["storage_data"]); err != nil {
		return nil, err
	}
	d.planned(f["planner_data"])
	m := &Metadata{}
	seen := map[string]bool{}
	for _, it := range entries.Items {
		fqn, ok := textOf(it.Key)
		if !ok {
			return nil, broken("state_dict_metadata", "a key is no text")
		}
		if seen[fqn] {
			return nil, broken(fqn, "is there twice")
		}
		seen[fqn] = true
		if err := d.entry(m, fqn, it.Value); err != nil {
			return nil, err
		}
	}
	for key := range d.places {
		fqn, _, _ := strings.Cut(key, "\x00")
		return nil, broken(fqn, "storage_data has a blob for it that belongs to no chunk")
	}
	return m, nil
}

// entry reads one entry of the state dict.
func (d *reader) entry(m *Metadata, fqn string, v pickle.Value) error {
	keys := d.paths[fqn]
	planned := len(keys) > 0 && strings.Join(keys, ".") == fqn
	if !planned {
		keys = strings.Split(fqn, ".")
	}
	if isClass(v, metadataModule, "BytesStorageMetadata") {
		p, err := d.place(fqn, nil, false)
		m.Objects = append(m.Objects, Object{fqn, keys, p})
		return err
	}
	f, err := fieldsOf(v, metadataModule, "TensorStorageMetadata")
	if err != nil {
		return err
	}
	t := Tensor{Name: fqn, Path: keys, planned: planned}
	if t.DType, err = dtypeOf(fqn, f["properties"]); err != nil {
		return err
	}
	if t.Size, err = sizeOf(fqn, f["size"]); err != nil {
		return err
	}
	chunks, ok := f["chunks"].(*pickle.List)
	if !ok {
		return broken(fqn, "its chunks are no list")
	}
	if d.chunks += len(chunks.Items); d.chunks > d.lim.Chunks {
		return broken(fqn, fmt.Sprintf("there are more than %d chunks", d.lim.Chunks))
	}
	for _, c := range chunks.Items {
		f, err := fieldsOf(c, metadataModule, "ChunkStorageMetadata")
		if err != nil {
			return err
		}
		var k Chunk
		if k.Offset, err = sizeOf(fqn, f["offsets"]); err != nil {
			return err
		}
		if k.Size, err = sizeOf(fqn, f["sizes"]); err != nil {
			return err
		}
		if k.Place, err = d.place(fqn, k.Offset, true); err != nil {
			return err
		}
		t.Chunks = append(t.Chunks, k)
	}
	m.Tensors = append(m.Tensors, t)
	return nil
}

// place takes the blob of a chunk: each belongs to one.
func (d *reader) place(fqn string, offset []int64, chunk bool) (Place, error) {
	key := indexKey(fqn, offset, chunk)
	p, ok := d.places[key]
	if !ok {
		return p, broken(fqn, fmt.Sprintf("storage_data has no blob for it at offset %v", offset))
	}
	delete(d.places, key)
	return p, nil
}

func indexKey(fqn string, offset []int64, chunk bool) string {
	b := append([]byte(fqn), 0)
	if !chunk {
		return string(append(b, '-'))
	}
	for _, n := range offset {
		b = append(strconv.AppendInt(b, n, 10), ',')
	}
	return string(b)
}

// storage reads storage_data: MetadataIndex -> _StorageInfo.
func (d *reader) storage(v pickle.Value) error {
	data, ok := v.(*pickle.Dict)
	if !ok {
		return unsupported("storage_data", "metadata without the places of its blobs",
			"load it with the storage reader that belongs to it, and save it with torch.distributed.checkpoint.FileSystemWriter")
	}
	d.places = make(map[string]Place, len(data.Items))
	for _, it := range data.Items {
		f, err := fieldsOf(it.Key, metadataModule, "MetadataIndex")
		if err != nil {
			return err
		}
		fqn, ok := textOf(f["fqn"])
		if !ok || strings.Contains(fqn, "\x00") {
			return broken("storage_data", "an index has no name")
		}
		var offset []int64
		_, object := f["offset"].(pickle.None)
		object = object || f["offset"] == nil
		if !object {
			if offset, err = sizeOf(fqn, f["offset"]); err != nil {
				return err
			}
		}
		key := indexKey(fqn, offset, !object)
		if _, twice := d.places[key]; twice {
			return broken(fqn, fmt.Sprintf("storage_data has two blobs for it at offset %v", offset))
		}
		if d.places[key], err = placeOf(fqn, it.Value); err != nil {
			return err
		}
	}
	return nil
}

// placeOf reads a _StorageInfo.
func placeOf(fqn string, v pickle.Value) (p Place, err error) {
	f, err := fieldsOf(v, fileModule, "_StorageInfo")
	if err != nil {
		return p, err
	}
	if t := f["transform_descriptors"]; t != nil {
		l, isList := t.(*pickle.List)
		if _, none := t.(pickle.None); !none && !(isList && len(l.Items) == 0) {
			return p, unsupported(fqn, "a checkpoint whose blobs are compressed or transformed (transform_descriptors)",
				"save it again with a FileSystemWriter without extensions")
		}
	}
	var ok bool
	if p.File, ok = textOf(f["relative_path"]); !ok {
		return p, broken(fqn, "its blob has no relative_path")
	}
	if p.File == "" || path.IsAbs(p.File) || path.Clean(p.File) != p.File || p.File == ".." || strings.HasPrefix(p.File, "../") || strings.ContainsAny(p.File, "\\\x00") {
		return p, broken(fqn, "its blob lies at "+quote(p.File)+", which is no file of the folder")
	}
	offset, isOffset := f["offset"].(pickle.Int)
	length, isLength := f["length"].(pickle.Int)
	if !isOffset || !isLength || offset < 0 || length < 0 {
		return p, broken(fqn, "offset or length of its blob is no whole number")
	}
	p.Offset, p.Length = int64(offset), int64(length)
	return p, nil
}

// planned reads planner_data: name -> keys. Planners of one's own may keep
// anything there; then names are cut at their dots.
func (d *reader) planned(v pickle.Value) {
	d.paths = map[string][]string{}
	data, ok := v.(*pickle.Dict)
	if !ok {
		return
	}
	for _, it := range data.Items {
		fqn, ok := textOf(it.Key)
		keys, isTuple := it.Value.(*pickle.Tuple)
		if !ok || !isTuple {
			continue
		}
		var p []string
		for _, k := range keys.Items {
			switch k := k.(type) {
			case pickle.String:
				p = append(p, k.S)
			case pickle.Int:
				p = append(p, strconv.FormatInt(int64(k), 10))
			}
		}
		if len(p) == len(keys.Items) {
			d.paths[fqn] = p
		}
	}
}

// dtypeOf reads TensorProperties, whose state is a tuple (dtype, layout,
// requires_grad, memory format, pin_memory).
func dtypeOf(fqn string, v pickle.Value) (string, error) {
	if !isClass(v, metadataModule, "TensorProperties") && !isClass(v, shardModule, "TensorProperties") {
		return "", broken(fqn, "it has no TensorProperties")
	}
	c := v.(*pickle.Call)
	var state *pickle.Tuple
	if len(c.States) == 1 {
		state, _ = c.States[0].Value.(*pickle.Tuple)
	}
	if state == nil || len(state.Items) != 5 {
		return "", broken(fqn, "its TensorProperties have another state than dtype, layout, requires_grad, memory_format, pin_memory")
	}
	g, ok := state.Items[0].(*pickle.Global)
	if !ok {
		return "", broken(fqn, "its dtype is no dtype")
	}
	module, dtype := g.Mapped()
	if module != "torch" {
		return "", broken(fqn, "its dtype is no dtype")
	}
	if !isStrided(state.Items[1]) {
		return "", unsupported(fqn, "sparse tensor", "save it as to_dense(), or its indices and values as two tensors")
	}
	return dtype, nil
}

func isStrided(v pickle.Value) bool {
	switch v := v.(type) {
	case *pickle.Global:
		module, name := v.Mapped()
		return module == "torch" && name == "strided"
	case *pickle.Call:
		args, _ := v.Args.(*pickle.Tuple)
		if g, ok := v.Callee.(*pickle.Global); !ok || g.Name != "_get_layout" || args == nil || len(args.Items) != 1 {
			return false
		}
		s, _ := textOf(args.Items[0])
		return s == "torch.strided"
	}
	return false
}

// sizeOf reads a torch.Size or a plain tuple of sizes, whose product fits.
func sizeOf(fqn string, v pickle.Value) ([]int64, error) {
	if c, ok := v.(*pickle.Call); ok {
		args, _ := c.Args.(*pickle.Tuple)
		g, _ := c.Callee.(*pickle.Global)
		if g == nil || g.Name != "Size" || args == nil || len(args.Items) != 1 {
			return nil, broken(fqn, "a size is no torch.Size")
		}
		v = args.Items[0]
	}
	t, ok := v.(*pickle.Tuple)
	if !ok {
		return nil, broken(fqn, "a size is no torch.Size")
	}
	const maxRank = 64
	if len(t.Items) > maxRank {
		return nil, broken(fqn, fmt.Sprintf("it has %d dimensions", len(t.Items)))
	}
	out := make([]int64, len(t.Items))
	for i, it := range t.Items {
		n, ok := it.(pickle.Int)
		if !ok || n < 0 {
			return nil, broken(fqn, "a size is no whole number")
		}
		out[i] = int64(n)
	}
	return out, nil
}

// volume is the number of elements; false where it overflows.
func volume(size []int64) (int64, bool) {
	if slices.Contains(size, 0) {
		return 0, true
	}
	n := uint64(1)
	for _, s := range size {
		hi, lo := bits.Mul64(n, uint64(s))
		if hi != 0 || lo >= 1<<62 {
			return 0, false
		}
		n = lo
	}
	return int64(n), true
}

func textOf(v pickle.Value) (string, bool) {
	s, ok := v.(pickle.String)
	return s.S, ok && s.Valid
}

func isClass(v pickle.Value, module, name string) bool {
	c, ok := v.(*pickle.Call)
	if !ok {
		return false
	}
	g, ok := c.Callee.(*pickle.Global)
	if !ok {
		return false
	}
	m, n := g.Mapped()
	return m == module && n == name
}

// fieldsOf gives the attributes of a dataclass.
func fieldsOf(v pickle.Value, module, class string) (map[string]pickle.Value, error) {
	if !isClass(v, module, class) {
		return nil, broken(MetadataName, "something stands where a "+class+" belongs")
	}
	c := v.(*pickle.Call)
	if len(c.States) != 1 {
		return nil, brokenAt(c.Offset, fmt.Sprintf("a %s has %d states", class, len(c.States)))
	}
	d, ok := c.States[0].Value.(*pickle.Dict)
	if !ok {
		return nil, brokenAt(c.Offset, "the state of a "+class+" is no dictionary")
	}
	f := make(map[string]pickle.Value, len(d.Items))
	for _, it := range d.Items {
		key, ok := textOf(it.Key)
		if _, twice := f[key]; twice || !ok {
			return nil, brokenAt(c.Offset, "the state of a "+class+" has odd keys")
		}
		f[key] = it.Value
	}
	return f, nil
}

// quote shows names as they are while that is unmistakable.
func quote(s string) string {
	const longest = 200
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return strconv.QuoteToASCII(s)
}
