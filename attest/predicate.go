package attest

// Predicate is version 1 of the safetensors compliance predicate. Arrays are
// sorted, integers stay below 2^53, unknown fields are ignored when reading.
// The JSON Schema is docs/safetensors-compliance-v1.schema.json.
type Predicate struct {
	Result        string       `json:"result"` // PASSED, WARNED or FAILED
	Level         int          `json:"level"`  // 0..4: ST1..ST4
	TimeEvaluated string       `json:"timeEvaluated"`
	Tool          Tool         `json:"tool"`
	Policy        PolicyRef    `json:"policy"`
	Artifact      ArtifactInfo `json:"artifact"`
	Origin        *Origin      `json:"origin,omitempty"`
	Summary       Summary      `json:"summary"`
	WeightsDigest string       `json:"weightsDigest,omitempty"` // sha256:...
	Files         []FileEntry  `json:"files"`
	Conversions   []Conversion `json:"conversions"`
	Exceptions    []Exception  `json:"exceptions,omitempty"`
	// TensorManifest points at the listing of all tensors, one line each,
	// stored as a blob of its own.
	TensorManifest *BlobRef `json:"tensorManifest,omitempty"`
}

// Tool is the program that made the statement.
type Tool struct {
	URI     string            `json:"uri"`
	Version string            `json:"version"`
	Digest  map[string]string `json:"digest,omitempty"`
}

// PolicyRef is the policy that was applied.
type PolicyRef struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest"`
}

// ArtifactInfo repeats what the manifest says.
type ArtifactInfo struct {
	MediaType    string `json:"mediaType"`
	ArtifactType string `json:"artifactType,omitempty"`
	ConfigDigest string `json:"configDigest"`
	ManifestSize int64  `json:"manifestSize"`
}

// Origin is where the source came from.
type Origin struct {
	URI   string       `json:"uri"`
	Files []OriginFile `json:"files,omitempty"`
}

// OriginFile is a source file.
type OriginFile struct {
	Path   string `json:"path"`
	Digest string `json:"digest"`
}

// Summary counts.
type Summary struct {
	Files       int   `json:"files"`
	Safetensors int   `json:"safetensors"`
	Converted   int   `json:"converted"`
	Other       int   `json:"other"`
	Blocked     int   `json:"blocked"`
	Tensors     int   `json:"tensors"`
	Parameters  int64 `json:"parameters"`
	WeightBytes int64 `json:"weightBytes"`
}

// FileEntry is a file of the artifact.
type FileEntry struct {
	Path          string           `json:"path"`
	LayerDigest   string           `json:"layerDigest"`
	Size          int64            `json:"size"`
	Role          string           `json:"role"`
	Format        FormatInfo       `json:"format"`
	ContentDigest string           `json:"contentDigest,omitempty"`
	Safetensors   *SafetensorsInfo `json:"safetensors,omitempty"`
	Findings      []FindingEntry   `json:"findings,omitempty"`
	// Blocked says that the policy refuses the file: the artifact had it when
	// it was evaluated. It makes the result FAILED.
	Blocked bool `json:"blocked,omitempty"`
}

// FormatInfo is what a file is and what its name says.
type FormatInfo struct {
	Detected string `json:"detected"`
	Declared string `json:"declared,omitempty"`
}

// SafetensorsInfo describes a safetensors file. HeaderSize counts the 8 bytes
// of length, JSON and padding, and HeaderDigest is the SHA-256 over exactly
// those bytes: one range GET can be checked against the signature.
type SafetensorsInfo struct {
	HeaderSize      int64          `json:"headerSize"`
	HeaderDigest    string         `json:"headerDigest"`
	Tensors         int            `json:"tensors"`
	DTypes          map[string]int `json:"dtypes"` // tensors by dtype
	TensorSetDigest string         `json:"tensorSetDigest"`
	Index           string         `json:"index,omitempty"` // path of the index that names this shard
}

// FindingEntry is a finding that the policy accepted, or in a FAILED statement
// one that it did not.
type FindingEntry struct {
	Rule     string `json:"rule"`
	Severity string `json:"severity"` // info, low, medium, high, critical
	Where    string `json:"where,omitempty"`
}

// Conversion is one converted file.
type Conversion struct {
	Source         SourceInfo   `json:"source"`
	Outputs        []OutputInfo `json:"outputs"`
	Engine         Engine       `json:"engine"`
	ExecutedPickle bool         `json:"executedPickle"` // always false
	Equality       Equality     `json:"equality"`
	// Renamed are the rules by which tensors got other names than in the
	// source, in the order in which they were applied.
	Renamed []RenameRule `json:"renamed,omitempty"`
}

// RenameRule replaces every match of a regular expression (RE2) in a tensor's
// name.
type RenameRule struct {
	From string `json:"from"`
	To   string `json:"to"` // $1 and ${name} are what groups matched
}

// SourceInfo is the file that was converted.
type SourceInfo struct {
	Path   string `json:"path"`
	Format string `json:"format"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"`
	// Parts lists the files of a source that is several; Size and Digest
	// are those of all, one after the other in this order.
	Parts []SourcePart `json:"parts,omitempty"`
}

// SourcePart is one file of a source that is several.
type SourcePart struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"`
}

// OutputInfo is a file that came out.
type OutputInfo struct {
	Path   string `json:"path"`
	Digest string `json:"digest"`
}

// Engine converted.
type Engine struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Equality says how source and output compare.
type Equality struct {
	Kind                  string         `json:"kind"` // "bitwise"
	TensorSetDigestSource string         `json:"tensorSetDigestSource"`
	TensorSetDigestOutput string         `json:"tensorSetDigestOutput"`
	Tensors               int            `json:"tensors"`
	Aliases               []AliasEntry   `json:"aliases,omitempty"`
	Dropped               []DroppedEntry `json:"dropped,omitempty"`
}

// AliasEntry is a name left out as a tie.
type AliasEntry struct {
	Removed string `json:"removed"`
	Kept    string `json:"kept"`
}

// DroppedEntry is content that safetensors cannot hold.
type DroppedEntry struct {
	Path   string `json:"path"`
	Kind   string `json:"kind"`
	Reason string `json:"reason"`
}

// Exception is a finding that somebody accepted.
type Exception struct {
	Rule       string `json:"rule"`
	Path       string `json:"path"`
	Reason     string `json:"reason"`
	ApprovedBy string `json:"approvedBy"`
	Expires    string `json:"expires"` // RFC 3339 or YYYY-MM-DD (its last second, UTC); "" never
}

// BlobRef points at a blob.
type BlobRef struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}
