package main

import (
	"fmt"
	"strings"
)

// krewManifest is what krew installs the kubectl plugin from
// (https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/). Windows'
// archive is a zip; krew takes both.
func (r *release) krewManifest() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: weightseal
spec:
  version: %s
  homepage: https://%s
  shortDescription: Verify models and scan what a cluster runs
  description: |
    Packages models as OCI artifacts, converts pickled weights to safetensors
    without executing a pickle, scans, signs an in-toto statement of it, and
    verifies that statement on pull and in gates.
  platforms:
`, r.tag, module)
	for _, p := range r.platforms {
		name := p.archive(r.version)
		fmt.Fprintf(&b, `  - selector:
      matchLabels:
        os: %s
        arch: %s
    uri: %s/%s
    sha256: %s
    bin: %s
    files:
      - from: %s
        to: .
      - from: LICENSE
        to: .
`, p.os, p.arch, r.url, name, r.digests[name], p.program(), p.program())
	}
	return []byte(b.String())
}
