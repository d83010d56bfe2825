package safetensors

// Index is a sharded checkpoint's index file (model.safetensors.index.json or
// pytorch_model.bin.index.json: they share a shape).
type Index struct {
	Metadata  map[string]any    // total_size and whatever else was there
	WeightMap map[string]string // tensor name -> shard file name
}

// ParseIndex reads an index. Duplicate keys, a shard name that is empty,
// absolute, climbs out or has a separator or NUL, and a missing weight_map are
// errors.
func ParseIndex(b []byte) (*Index, error) { panic("unbuilt") }

// Encode writes the index as the Hugging Face tools do: two spaces of
// indentation, keys sorted, a newline at the end.
func (ix *Index) Encode() ([]byte, error) { panic("unbuilt") }

// Shards lists the shard files that the index names, sorted.
func (ix *Index) Shards() []string { panic("unbuilt") }

// Check compares the index with the shards' headers: it must name exactly the
// union of their tensors, each in the shard that holds it. Names that a
// shard's metadata lists as removed ties may be named or missing.
func (ix *Index) Check(headers map[string]*Header) error { panic("unbuilt") }
