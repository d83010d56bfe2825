package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"sort"
	"time"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/convert"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/scan"
)

const toolURI = "https://github.com/weightseal/weightseal"

// statement puts together what is known about a staged artifact. earlier is
// what our own key has said about the same artifact before: its conversions and
// its origin still hold where files have not been converted here.
func (j *pushJob) statement(staged *oci.Staged, earlier *statementBefore) ([]byte, error) {
	p := &attest.Predicate{
		TimeEvaluated: time.Now().UTC().Format(time.RFC3339),
		Tool:          attest.Tool{URI: toolURI, Version: buildVersion()},
		Policy:        attest.PolicyRef{Name: j.policy.Name(), Digest: map[string]string{"sha256": j.policy.Digest()}},
		Conversions:   []attest.Conversion{},
	}
	if j.from != nil {
		p.Origin = &j.from.statement
	}
	var err error
	if p.Artifact, err = attest.DescribeArtifact(staged.Manifest, staged.ManifestBytes); err != nil {
		return nil, err
	}
	byFile := map[string][]safetensors.TensorDigest{}
	bySource := map[string][]*item{}
	for _, it := range j.items {
		entry, err := j.fileEntry(it)
		if err != nil {
			return nil, err
		}
		p.Files = append(p.Files, entry)
		p.Summary.Parameters += it.parameters()
		if it.header != nil {
			byFile[it.path] = it.tensors
		}
		if it.plan != nil {
			bySource[it.file.Path] = append(bySource[it.file.Path], it)
		}
	}
	for _, source := range sortedKeys(bySource) {
		c, err := j.conversion(bySource[source])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		p.Conversions = append(p.Conversions, *c)
	}
	p.WeightsDigest = weightsDigest(byFile)
	if earlier != nil && len(p.Conversions) == 0 && len(earlier.predicate.Conversions) > 0 {
		p.Conversions, p.Origin = earlier.predicate.Conversions, earlier.predicate.Origin
	}
	if j.predicate, err = p.Completed(); err != nil {
		return nil, err
	}
	return attest.NewStatement(j.model.Name, staged.Manifest.Digest.String(), j.predicate)
}

func (j *pushJob) fileEntry(it *item) (attest.FileEntry, error) {
	e := attest.FileEntry{
		Path: it.path, LayerDigest: it.descriptor.Digest.String(), Size: it.descriptor.Size, Role: string(it.role()),
		Format: attest.FormatInfo{Detected: it.format(), Declared: string(model.DeclaredFormat(it.path))},
	}
	if it.plan == nil {
		e.Findings = j.findings(it.file.Path)
	}
	if it.header == nil {
		return e, nil
	}
	info, err := safetensorsInfo(it)
	e.Safetensors = info
	if info != nil {
		info.Index = j.indexOf(it.path)
	}
	return e, err
}

func (j *pushJob) findings(path string) []attest.FindingEntry {
	var out []attest.FindingEntry
	for _, r := range j.report.Files {
		if r.Path != path {
			continue
		}
		for _, f := range r.Findings {
			out = append(out, attest.FindingEntry{Rule: f.Rule, Severity: f.Severity, Where: where(f)})
		}
	}
	return out
}

// where says in a word where in its file a finding is.
func where(f scan.Finding) string {
	w := f.Inner
	if f.Offset != nil {
		w += fmt.Sprintf("@%d", *f.Offset)
	}
	return w
}

func safetensorsInfo(it *item) (*attest.SafetensorsInfo, error) {
	digest, err := headerDigest(it.reader(), it.header)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", it.path, err)
	}
	set, err := safetensors.SetDigest(it.tensors)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", it.path, err)
	}
	info := &attest.SafetensorsInfo{
		HeaderSize: it.header.DataStart(), HeaderDigest: digest, Tensors: len(it.header.Tensors),
		DTypes: map[string]int{}, TensorSetDigest: "sha256:" + set,
	}
	for _, t := range it.header.Tensors {
		info.DTypes[t.DType.String()]++
	}
	return info, nil
}

// headerDigest is the SHA-256 over a safetensors file's first bytes: length,
// JSON and padding.
func headerDigest(r io.ReaderAt, h *safetensors.Header) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, h.DataStart())); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// indexOf gives the index file in the same folder that names the shard.
func (j *pushJob) indexOf(shard string) string {
	for _, it := range j.items {
		if it.content == nil || path.Dir(it.path) != path.Dir(shard) {
			continue
		}
		ix, err := safetensors.ParseIndex(it.content)
		if err != nil {
			continue
		}
		for _, s := range ix.Shards() {
			if s == path.Base(shard) {
				return it.path
			}
		}
	}
	return ""
}

func (it *item) parameters() int64 {
	var n int64
	if it.header != nil {
		for _, t := range it.header.Tensors {
			n += elements(t)
		}
	}
	return n
}

// elements is the number of a tensor's elements; a validated header has no
// tensor where it overflows.
func elements(t safetensors.Tensor) int64 {
	if t.End == t.Begin {
		return 0
	}
	n := int64(1)
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n
}

// conversion describes what one source file was converted to.
func (j *pushJob) conversion(items []*item) (*attest.Conversion, error) {
	proofs := make([]*convert.Proof, len(items))
	for i, it := range items {
		proofs[i] = it.proof
	}
	proof, err := convert.JoinProofs(proofs...)
	if err != nil {
		return nil, err
	}
	first := items[0]
	c := &attest.Conversion{
		Source: attest.SourceInfo{Path: first.file.Path, Format: string(first.file.Format), Size: first.plan.Source.Size, Digest: "sha256:" + proof.SourceDigest},
		Engine: attest.Engine{Name: program, Version: buildVersion()},
		Equality: attest.Equality{
			Kind: "bitwise", TensorSetDigestSource: "sha256:" + proof.SetDigest, TensorSetDigestOutput: "sha256:" + proof.SetDigest,
			Tensors: len(proof.Tensors),
		},
	}
	for _, p := range proof.SourceParts {
		c.Source.Parts = append(c.Source.Parts, attest.SourcePart{Path: p.Path, Size: p.Size, Digest: "sha256:" + p.Digest})
	}
	for _, it := range items {
		c.Outputs = append(c.Outputs, attest.OutputInfo{Path: it.path, Digest: it.descriptor.Digest.String()})
		for _, a := range it.plan.Aliases {
			c.Equality.Aliases = append(c.Equality.Aliases, attest.AliasEntry{Removed: a.Removed, Kept: a.Kept})
		}
		for _, d := range it.plan.Dropped {
			c.Equality.Dropped = append(c.Equality.Dropped, attest.DroppedEntry{Path: d.Path, Kind: d.Kind, Reason: d.Reason})
		}
		if len(it.plan.Renamed) == 0 {
			continue
		}
		for _, r := range j.renames {
			c.Renamed = append(c.Renamed, attest.RenameRule{From: r.From.String(), To: r.To})
		}
	}
	return c, nil
}

// weightsDigest is the identity of a model's weights: the set digest over the
// tensors of all weight files together. The name of a tensor in a folder
// begins with the folder and a NUL, which no tensor name holds, so that the
// parts of a pipeline (unet/, vae/) do not collide; "" when two files of one
// folder hold the same name, since then there is no one set of weights.
func weightsDigest(byFile map[string][]safetensors.TensorDigest) string {
	if len(byFile) == 0 {
		return ""
	}
	var all []safetensors.TensorDigest
	for file, tensors := range byFile {
		all = append(all, inFolder(file, "\x00", tensors)...)
	}
	digest, err := safetensors.SetDigest(all)
	if err != nil {
		return ""
	}
	return "sha256:" + digest
}

// inFolder puts the folder of a weight file before the names of its tensors.
func inFolder(file, separator string, tensors []safetensors.TensorDigest) []safetensors.TensorDigest {
	dir := path.Dir(file)
	if dir == "." {
		return tensors
	}
	out := slices.Clone(tensors)
	for i := range out {
		out[i].Name = dir + separator + out[i].Name
	}
	return out
}

// config fills the ModelPack config from the headers and config.json.
func (j *pushJob) config() oci.ModelConfig {
	c := oci.ModelConfig{}
	var parameters int64
	dtypes := map[string]int64{}
	for _, it := range j.items {
		if it.header == nil {
			continue
		}
		c.Format = string(model.Safetensors)
		parameters += it.parameters()
		for _, t := range it.header.Tensors {
			dtypes[t.DType.String()] += elements(t)
		}
	}
	c.Precision = most(dtypes)
	if parameters > 0 {
		c.ParamSize = parameterText(parameters)
	}
	for _, it := range j.items {
		if it.path == "config.json" && it.blob != nil && it.blob.Size() <= 1<<20 {
			c.Architecture = architecture(it.blob)
		}
	}
	return c
}

// most gives the key with the largest count, the first by name among equals.
func most(counts map[string]int64) string {
	keys := make([]string, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(a, b int) bool {
		if counts[keys[a]] != counts[keys[b]] {
			return counts[keys[a]] > counts[keys[b]]
		}
		return keys[a] < keys[b]
	})
	if len(keys) == 0 {
		return ""
	}
	return keys[0]
}

// architecture reads model_type out of a config.json.
func architecture(b model.Blob) string {
	var config struct {
		ModelType string `json:"model_type"`
	}
	if err := json.NewDecoder(io.NewSectionReader(b, 0, b.Size())).Decode(&config); err != nil {
		return ""
	}
	return config.ModelType
}
