package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// The part of CycloneDX 1.6 that is written
// (https://cyclonedx.org/docs/1.6/json/).
type bom struct {
	Schema       string          `json:"$schema"`
	Format       string          `json:"bomFormat"`
	SpecVersion  string          `json:"specVersion"`
	SerialNumber string          `json:"serialNumber,omitempty"`
	Version      int             `json:"version"`
	Metadata     bomMetadata     `json:"metadata"`
	Components   []bomComponent  `json:"components"`
	Dependencies []bomDependency `json:"dependencies"`
}

type bomMetadata struct {
	Timestamp string       `json:"timestamp"`
	Component bomComponent `json:"component"`
}

type bomComponent struct {
	Type       string         `json:"type"`
	Ref        string         `json:"bom-ref"`
	Name       string         `json:"name"`
	Version    string         `json:"version,omitempty"`
	Hashes     []bomHash      `json:"hashes,omitempty"`
	Licenses   []bomLicense   `json:"licenses,omitempty"`
	PURL       string         `json:"purl,omitempty"`
	Components []bomComponent `json:"components,omitempty"`
	Properties []bomProperty  `json:"properties,omitempty"`
}

type bomHash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

type bomLicense struct {
	License struct {
		ID string `json:"id"`
	} `json:"license"`
}

type bomProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type bomDependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// sbom lists what is in the release: the archives, and the modules that the
// Go linker put into any of the binaries, as the binaries themselves say.
func (r *release) sbom(ctx context.Context) ([]byte, error) {
	modules, goVersion, err := r.modules()
	if err != nil {
		return nil, err
	}
	licences, err := r.licences(ctx, slices.Collect(maps.Keys(modules)))
	if err != nil {
		return nil, err
	}
	top := bomComponent{
		Type: "application", Ref: purl(module, r.tag), PURL: purl(module, r.tag), Name: "weightseal", Version: r.tag,
		Licenses: licence("Apache-2.0"),
	}
	for _, p := range r.platforms {
		name := p.archive(r.version)
		top.Components = append(top.Components, bomComponent{
			Type: "file", Ref: "file:" + name, Name: name, Hashes: []bomHash{{"SHA-256", r.digests[name]}},
			Properties: []bomProperty{{"weightseal:platform", p.String()}},
		})
	}
	b := bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: bomMetadata{Timestamp: r.date.UTC().Format(time.RFC3339), Component: top},
	}
	depends := bomDependency{Ref: top.Ref}
	std := bomComponent{Type: "library", Ref: purl("std", strings.TrimPrefix(goVersion, "go")), Name: "std",
		Version: strings.TrimPrefix(goVersion, "go"), Licenses: licence("BSD-3-Clause")}
	std.PURL = std.Ref
	b.Components = append(b.Components, std)
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		m := modules[path]
		c := bomComponent{Type: "library", Ref: purl(m.Path, m.Version), PURL: purl(m.Path, m.Version), Name: m.Path, Version: m.Version,
			Licenses: licence(licences[path])}
		if sum, ok := moduleHash(m.Sum); ok {
			c.Hashes = []bomHash{{"SHA-256", sum}}
			c.Properties = []bomProperty{{"weightseal:hash", "go.sum h1: of the module's files"}}
		}
		b.Components = append(b.Components, c)
	}
	for _, c := range b.Components {
		depends.DependsOn = append(depends.DependsOn, c.Ref)
	}
	b.Dependencies = []bomDependency{depends}
	for _, c := range b.Components {
		b.Dependencies = append(b.Dependencies, bomDependency{Ref: c.Ref})
	}
	return b.encode()
}

// encode gives the document a serial number made of its own content: the same
// release has the same one.
func (b *bom) encode() ([]byte, error) {
	raw, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(raw)
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // version 8, RFC 9562
	b.SerialNumber = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16])
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err = enc.Encode(b)
	return out.Bytes(), err
}

// modules reads which modules the binaries were built from.
func (r *release) modules() (map[string]*debug.Module, string, error) {
	all := map[string]*debug.Module{}
	goVersion := ""
	for p, program := range r.binaries {
		info, err := buildinfo.Read(bytes.NewReader(program))
		if err != nil {
			return nil, "", fmt.Errorf("build information of %s: %w", p, err)
		}
		goVersion = info.GoVersion
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			all[m.Path] = m
		}
	}
	return all, goVersion, nil
}

// licences finds the modules' licences in the module cache; one that is not
// recognised is left out.
func (r *release) licences(ctx context.Context, paths []string) (map[string]string, error) {
	slices.Sort(paths)
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-m", "-json=Path,Dir"}, paths...)...)
	cmd.Dir = r.source
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m: %w", err)
	}
	found := map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var m struct{ Path, Dir string }
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		for _, name := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"} {
			if text, err := os.ReadFile(filepath.Join(m.Dir, name)); err == nil {
				found[m.Path] = recognise(string(text))
				break
			}
		}
	}
}

// recognise knows the licences that Go modules mostly have, by sentences that
// only they hold.
func recognise(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case has("Apache License Version 2.0"):
		return "Apache-2.0"
	case has("Mozilla Public License Version 2.0"), has("Mozilla Public License, version 2.0"):
		return "MPL-2.0"
	case has("Permission is hereby granted, free of charge"):
		return "MIT"
	case has("Redistributions in binary form") && has("Neither the name"):
		return "BSD-3-Clause"
	case has("Redistributions in binary form"):
		return "BSD-2-Clause"
	case has("Permission to use, copy, modify, and/or distribute this software"):
		return "ISC"
	}
	return ""
}

func licence(id string) []bomLicense {
	if id == "" {
		return nil
	}
	var l bomLicense
	l.License.ID = id
	return []bomLicense{l}
}

// purl is the package URL of a Go module
// (https://github.com/package-url/purl-spec).
func purl(path, version string) string {
	return "pkg:golang/" + strings.ToLower(path) + "@" + strings.ReplaceAll(version, "+", "%2B")
}

// moduleHash gives the SHA-256 in a go.sum hash.
func moduleHash(sum string) (string, bool) {
	text, ok := strings.CutPrefix(sum, "h1:")
	raw, err := base64.StdEncoding.DecodeString(text)
	return hex.EncodeToString(raw), ok && err == nil && len(raw) == sha256.Size
}
