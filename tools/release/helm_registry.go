package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// What Helm 4 expects of a plugin in a registry: a configuration of this type,
// which is the artifact's too, and layers with the archive and its provenance,
// each found by its title (helm pkg/registry/plugin.go).
const (
	helmPluginType    = "application/vnd.helm.plugin.v1+json"
	helmPluginArchive = "application/vnd.oci.image.layer.v1.tar+gzip"
	helmPluginProof   = "application/vnd.oci.image.layer.v1.tar"
	titleAnnotation   = "org.opencontainers.image.title"
	versionAnnotation = "org.opencontainers.image.version"
	proofSuffix       = ".prov"
)

// shipPlugin signs the plugin's archive of a release that was made, if a key is
// named or it was signed before, and pushes both to a registry.
func (r *release) shipPlugin(ctx context.Context, gpgKey, push string, plainHTTP bool) error {
	archive := "weightseal-" + r.version + ".tgz"
	content, err := os.ReadFile(filepath.Join(r.out, archive))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: make the release first: make release VERSION=%s", err, r.tag)
	}
	if err != nil {
		return err
	}
	if gpgKey != "" {
		proof, err := r.helmProvenance(ctx, archive, content, gpgKey)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.out, archive+proofSuffix), proof, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(r.log, "signed %s\n", archive)
	}
	proof, err := os.ReadFile(filepath.Join(r.out, archive+proofSuffix))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if push == "" {
		return nil
	}
	img, err := r.pluginArtifact(archive, content, proof)
	if err != nil {
		return err
	}
	return pushTo(ctx, push, plainHTTP, img, remote.Write)
}

// helmProvenance is a provenance file: the manifest and the archive's digest,
// signed in clear text (https://helm.sh/docs/topics/provenance/). gpg has the
// key, and asks for its password.
func (r *release) helmProvenance(ctx context.Context, archive string, content []byte, gpgKey string) ([]byte, error) {
	manifest, err := os.ReadFile(filepath.Join(r.source, "plugin.yaml"))
	if err != nil {
		return nil, err
	}
	message := manifestVersion.ReplaceAll(manifest, []byte("version: "+r.version))
	message = fmt.Appendf(bytes.TrimSpace(message), "\n\n...\nfiles:\n  %s: sha256:%x\n", archive, sha256.Sum256(content))
	cmd := exec.CommandContext(ctx, "gpg", "--batch", "--yes", "--local-user", gpgKey, "--digest-algo", "SHA512", "--clearsign", "--output", "-")
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(message), &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("gpg: %w\n%s", err, &said)
	}
	return out.Bytes(), nil
}

func (r *release) pluginArtifact(archive string, content, proof []byte) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), helmPluginType)
	layers := []mutate.Addendum{{
		Layer: static.NewLayer(content, helmPluginArchive), Annotations: map[string]string{titleAnnotation: archive},
	}}
	if proof != nil {
		layers = append(layers, mutate.Addendum{
			Layer: static.NewLayer(proof, helmPluginProof), Annotations: map[string]string{titleAnnotation: archive + proofSuffix},
		})
	}
	img, err := mutate.Append(img, layers...)
	if err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(img, map[string]string{
		titleAnnotation: "weightseal", versionAnnotation: r.version,
		"org.opencontainers.image.source": "https://" + module, "org.opencontainers.image.created": r.date.Format("2006-01-02T15:04:05Z"),
	}).(v1.Image)
	if !ok {
		return nil, fmt.Errorf("annotations of the plugin: %T", img)
	}
	return annotated, nil
}
