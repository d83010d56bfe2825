package attest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// maxInteger is the largest integer that verifiers which decode numbers as
// float64 keep exact.
const maxInteger = 1<<53 - 1

// Completed gives the predicate as a statement carries it: arrays sorted, the
// counts of Summary and Result and Level computed from the rest, and the form
// of everything checked. p is not changed.
func (p *Predicate) Completed() (*Predicate, error) {
	q := p.normalised()
	q.summarise()
	q.Result, q.Level, _ = q.Evaluate()
	if err := q.validate(); err != nil {
		return nil, fmt.Errorf("predicate: %w", err)
	}
	return q, nil
}

// normalised gives a copy with every array sorted and none of them null.
func (p *Predicate) normalised() *Predicate {
	q := *p
	q.Policy.Digest = orEmpty(p.Policy.Digest)
	q.Files = sorted(p.Files, func(a, b FileEntry) int { return cmp.Compare(a.Path, b.Path) })
	for i := range q.Files {
		f := &q.Files[i]
		f.Findings = sorted(f.Findings, compareFindings)
		if f.Safetensors != nil {
			st := *f.Safetensors
			st.DTypes = orEmpty(st.DTypes)
			f.Safetensors = &st
		}
	}
	q.Conversions = sorted(p.Conversions, func(a, b Conversion) int {
		return cmp.Or(cmp.Compare(a.Source.Path, b.Source.Path), cmp.Compare(a.Source.Digest, b.Source.Digest))
	})
	for i := range q.Conversions {
		q.Conversions[i] = q.Conversions[i].normalised()
	}
	q.Exceptions = sorted(p.Exceptions, func(a, b Exception) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Expires, b.Expires))
	})
	if p.Origin != nil {
		o := *p.Origin
		o.Files = sorted(o.Files, func(a, b OriginFile) int {
			return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Digest, b.Digest))
		})
		q.Origin = &o
	}
	return &q
}

func (c Conversion) normalised() Conversion {
	c.Outputs = sorted(c.Outputs, func(a, b OutputInfo) int { return cmp.Compare(a.Path, b.Path) })
	c.Renamed = slices.Clone(c.Renamed) // their order counts
	c.Equality.Aliases = sorted(c.Equality.Aliases, func(a, b AliasEntry) int {
		return cmp.Or(cmp.Compare(a.Removed, b.Removed), cmp.Compare(a.Kept, b.Kept))
	})
	c.Equality.Dropped = sorted(c.Equality.Dropped, func(a, b DroppedEntry) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Kind, b.Kind))
	})
	return c
}

func compareFindings(a, b FindingEntry) int {
	return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Where, b.Where), cmp.Compare(a.Severity, b.Severity))
}

// orEmpty gives a map that is not nil, so that it is written as {}.
func orEmpty[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

// sorted gives a sorted copy, which is never nil.
func sorted[T any](in []T, compare func(a, b T) int) []T {
	out := slices.Clone(in)
	if out == nil {
		out = []T{}
	}
	slices.SortStableFunc(out, compare)
	return out
}

// summarise fills in the counts that follow from the rest. Parameters is left
// as it is: the predicate does not hold shapes.
func (p *Predicate) summarise() {
	s := Summary{Parameters: p.Summary.Parameters}
	converted := map[string]bool{}
	for _, c := range p.Conversions {
		for _, o := range c.Outputs {
			converted[o.Path] = true
		}
	}
	for _, f := range p.Files {
		s.Files++
		if f.Blocked {
			s.Blocked++
		}
		if f.Format.Detected != formatSafetensors {
			s.Other++
			continue
		}
		s.Safetensors++
		if converted[f.Path] {
			s.Converted++
		}
		if f.Safetensors != nil {
			s.WeightBytes = addCapped(s.WeightBytes, max(f.Size-f.Safetensors.HeaderSize, 0))
			s.Tensors = int(addCapped(int64(s.Tensors), int64(f.Safetensors.Tensors)))
		}
	}
	s.Blocked = max(s.Blocked, p.Summary.Blocked)
	p.Summary = s
}

// addCapped adds counts that are not negative. A sum beyond maxInteger becomes
// the first integer that validate refuses.
func addCapped(a, b int64) int64 {
	if a > maxInteger || b > maxInteger-a {
		return maxInteger + 1
	}
	return a + b
}

// validate checks the form of what is said, not whether it is true.
func (p *Predicate) validate() error {
	if !slices.Contains([]string{Passed, Warned, Failed}, p.Result) {
		return fmt.Errorf("result %s is none of PASSED, WARNED, FAILED", quote(p.Result))
	}
	if _, err := time.Parse(time.RFC3339, p.TimeEvaluated); err != nil {
		return fmt.Errorf("timeEvaluated %s is not an RFC 3339 time", quote(p.TimeEvaluated))
	}
	if where, n, ok := badInteger(reflect.ValueOf(p).Elem()); !ok {
		return fmt.Errorf("%s: %d is not between 0 and 2^53-1", strings.TrimPrefix(where, "."), n)
	}
	if err := p.validateFiles(); err != nil {
		return err
	}
	if err := p.validateDigests(); err != nil {
		return err
	}
	for _, e := range p.Exceptions {
		if e.Rule == "" || e.Path == "" {
			return errors.New("exceptions: one without rule or path")
		}
		if _, _, err := e.expiry(); err != nil {
			return fmt.Errorf("exceptions: expires %s is neither a date nor an RFC 3339 time", quote(e.Expires))
		}
	}
	return nil
}

// validateFiles checks the paths, which must be unique, and the digests of
// files.
func (p *Predicate) validateFiles() error {
	seen := make(map[string]bool, len(p.Files))
	for _, f := range p.Files {
		if f.Path == "" || seen[f.Path] {
			return fmt.Errorf("files: path %s is empty or there twice", quote(f.Path))
		}
		seen[f.Path] = true
		ok := isDigest(f.LayerDigest) && (f.ContentDigest == "" || isDigest(f.ContentDigest))
		if st := f.Safetensors; ok && st != nil {
			ok = isDigest(st.HeaderDigest) && isDigest(st.TensorSetDigest)
		}
		if !ok {
			return fmt.Errorf("files: %s: one of its digests is not sha256: and 64 hex digits", quote(f.Path))
		}
	}
	return nil
}

// validateDigests checks the digests outside of files.
func (p *Predicate) validateDigests() error {
	if !isDigest(p.Artifact.ConfigDigest) {
		return fmt.Errorf("artifact.configDigest %s is not a sha256 digest", quote(p.Artifact.ConfigDigest))
	}
	if p.WeightsDigest != "" && !isDigest(p.WeightsDigest) {
		return fmt.Errorf("weightsDigest %s is not a sha256 digest", quote(p.WeightsDigest))
	}
	if p.TensorManifest != nil && !isDigest(p.TensorManifest.Digest) {
		return fmt.Errorf("tensorManifest.digest %s is not a sha256 digest", quote(p.TensorManifest.Digest))
	}
	for _, c := range p.Conversions {
		if !isDigest(c.Source.Digest) {
			return fmt.Errorf("conversions: %s: source digest %s is not sha256", quote(c.Source.Path), quote(c.Source.Digest))
		}
		for _, part := range c.Source.Parts {
			if !isDigest(part.Digest) {
				return fmt.Errorf("conversions: %s: digest %s of part %s is not sha256", quote(c.Source.Path), quote(part.Digest), quote(part.Path))
			}
		}
		for _, o := range c.Outputs {
			if !isDigest(o.Digest) {
				return fmt.Errorf("conversions: %s: digest %s is not sha256", quote(o.Path), quote(o.Digest))
			}
		}
	}
	return nil
}

// badInteger finds an integer that is negative or beyond maxInteger: no field
// of a predicate may be either.
func badInteger(v reflect.Value) (where string, n int64, ok bool) {
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		return "", v.Int(), v.Int() >= 0 && v.Int() <= maxInteger
	case reflect.Pointer:
		if !v.IsNil() {
			return badInteger(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			if where, n, ok := badInteger(v.Index(i)); !ok {
				return fmt.Sprintf("[%d]%s", i, where), n, false
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if where, n, ok := badInteger(it.Value()); !ok {
				return "." + it.Key().String() + where, n, false
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if where, n, ok := badInteger(v.Field(i)); !ok {
				name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
				return "." + name + where, n, false
			}
		}
	}
	return "", 0, true
}

// clone gives a copy that shares no memory with p.
func (p *Predicate) clone() *Predicate {
	q := p.normalised()
	q.Tool.Digest = maps.Clone(p.Tool.Digest)
	q.Policy.Digest = maps.Clone(q.Policy.Digest)
	for _, f := range q.Files {
		if f.Safetensors != nil { // a copy already
			f.Safetensors.DTypes = maps.Clone(f.Safetensors.DTypes)
		}
	}
	if p.TensorManifest != nil {
		t := *p.TensorManifest
		q.TensorManifest = &t
	}
	return q
}
