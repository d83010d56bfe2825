package main

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"

	"github.com/weightseal/weightseal/attest"
)

const (
	provenanceType = "https://slsa.dev/provenance/v1"
	buildType      = "https://github.com/weightseal/weightseal/blob/main/docs/howto/release.md#how-it-is-built"
)

// provenance is the predicate of SLSA provenance v1
// (https://slsa.dev/spec/v1.0/provenance): the sources, and how to build them
// again.
func (r *release) provenance(ctx context.Context) (json.RawMessage, error) {
	var names []string
	for _, p := range r.platforms {
		names = append(names, p.String())
	}
	type descriptor struct {
		URI    string            `json:"uri,omitempty"`
		Name   string            `json:"name,omitempty"`
		Digest map[string]string `json:"digest,omitempty"`
	}
	source := descriptor{URI: "git+https://" + module + "@refs/tags/" + r.tag}
	if commit := r.git(ctx, "rev-parse", "HEAD"); commit != "" {
		source.Digest = map[string]string{"gitCommit": commit}
	}
	_, goVersion, err := r.modules()
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"buildDefinition": map[string]any{
			"buildType": buildType,
			"externalParameters": map[string]any{
				"version": r.tag, "platforms": names, "sourceDateEpoch": r.date.Unix(),
			},
			"internalParameters": map[string]any{
				"command": "make release VERSION=" + r.tag,
				"dirty":   r.git(ctx, "status", "--porcelain", "--untracked-files=no") != "",
			},
			"resolvedDependencies": []descriptor{source, {URI: "https://go.dev/dl/#" + goVersion, Name: goVersion}},
		},
		"runDetails": map[string]any{
			"builder": map[string]any{"id": r.builder},
		},
	})
}

// git asks about the checkout; nothing where there is none.
func (r *release) git(ctx context.Context, args ...string) string {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.source
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// attestation signs the provenance of the files, as a DSSE envelope.
func (r *release) attestation(ctx context.Context, signer attest.Signer, files []string) ([]byte, error) {
	predicate, err := r.provenance(ctx)
	if err != nil {
		return nil, err
	}
	var subjects []attest.BlobSubject
	for _, name := range files {
		subjects = append(subjects, attest.BlobSubject{Name: name, Digest: "sha256:" + r.digests[name]})
	}
	statement, err := attest.NewBlobStatement(subjects, provenanceType, predicate)
	if err != nil {
		return nil, err
	}
	return signer.Sign(ctx, statement)
}
