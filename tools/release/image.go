package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"slices"

	"archive/tar"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nonroot is the user that distroless images have under this number.
const nonroot = 65532

// image writes the container image as an OCI layout, for Linux on both
// architectures: the static program, Mozilla's certificate authorities, a user
// that is not root, and nothing else.
func (r *release) image(ctx context.Context, platforms, push string, plainHTTP bool) error {
	if platforms == "" {
		platforms = "linux/amd64,linux/arm64"
	}
	list, err := parsePlatforms(platforms)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(p platform) bool { return p.os != "linux" }) {
		return fmt.Errorf("platforms %s: the image is for Linux", platforms)
	}
	if err := r.compile(ctx, list); err != nil {
		return err
	}
	index, err := r.index(ctx, list)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	l, err := layout.Write(r.out, empty.Index)
	if err != nil {
		return err
	}
	if err := l.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": r.tag})); err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(r.log, "%s  %s\n", digest, r.out)
	if push == "" {
		return nil
	}
	return pushTo(ctx, push, plainHTTP, index, remote.WriteIndex)
}

// pushTo writes an image or an index to a registry, with docker's credentials,
// and prints its reference by digest.
func pushTo[T interface{ Digest() (v1.Hash, error) }](ctx context.Context, push string, plainHTTP bool, what T, write func(name.Reference, T, ...remote.Option) error) error {
	var opts []name.Option
	if plainHTTP {
		opts = append(opts, name.Insecure)
	}
	ref, err := name.ParseReference(push, opts...)
	if err != nil {
		return err
	}
	if err := write(ref, what, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return err
	}
	digest, err := what.Digest()
	if err != nil {
		return err
	}
	fmt.Println(ref.Context().Name() + "@" + digest.String())
	return nil
}

// annotations are those of the OCI image specification.
func (r *release) annotations(ctx context.Context) map[string]string {
	m := map[string]string{
		"org.opencontainers.image.title":         "weightseal",
		"org.opencontainers.image.description":   "Ship models as safetensors, with the proof",
		"org.opencontainers.image.version":       r.version,
		"org.opencontainers.image.source":        "https://" + module,
		"org.opencontainers.image.url":           "https://" + module,
		"org.opencontainers.image.documentation": "https://" + module + "/tree/main/docs",
		"org.opencontainers.image.licenses":      "Apache-2.0",
		"org.opencontainers.image.created":       r.date.Format("2006-01-02T15:04:05Z"),
	}
	if commit := r.git(ctx, "rev-parse", "HEAD"); commit != "" {
		m["org.opencontainers.image.revision"] = commit
	}
	return m
}

func (r *release) index(ctx context.Context, list []platform) (v1.ImageIndex, error) {
	notes := r.annotations(ctx)
	base, err := r.baseLayer()
	if err != nil {
		return nil, err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range list {
		img, err := r.platformImage(p, base, notes)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.os, Architecture: p.arch}},
		})
	}
	annotated, ok := mutate.Annotations(index, notes).(v1.ImageIndex)
	if !ok {
		return nil, fmt.Errorf("annotations of the index: %T", index)
	}
	return annotated, nil
}

func (r *release) platformImage(p platform, base v1.Layer, notes map[string]string) (v1.Image, error) {
	program, err := r.layer([]tar.Header{
		{Name: "usr/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "usr/local/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "usr/local/bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "usr/local/bin/weightseal", Typeflag: tar.TypeReg, Mode: 0o755},
	}, [][]byte{3: r.binaries[p]})
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range []struct {
		layer v1.Layer
		by    string
	}{{base, "user, home, certificate authorities"}, {program, "weightseal " + r.tag}} {
		if img, err = mutate.Append(img, mutate.Addendum{
			Layer: l.layer, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: r.date}, CreatedBy: l.by},
		}); err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = p.os, p.arch, v1.Time{Time: r.date}
	config.Config = v1.Config{
		Entrypoint: []string{"/usr/local/bin/weightseal"},
		User:       fmt.Sprintf("%d:%d", nonroot, nonroot),
		WorkingDir: "/home/nonroot",
		Env:        []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/nonroot", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		Labels:     notes,
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(img, notes).(v1.Image)
	if !ok {
		return nil, fmt.Errorf("annotations of the image: %T", img)
	}
	return annotated, nil
}

// baseLayer is what a program without a system around it needs.
func (r *release) baseLayer() (v1.Layer, error) {
	return r.layer([]tar.Header{
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/group", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "etc/ssl/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/ssl/certs/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/ssl/certs/ca-certificates.crt", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "home/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "home/nonroot/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: nonroot, Gid: nonroot},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
	}, [][]byte{
		1: []byte("root:x:0:\nnonroot:x:65532:\n"),
		2: []byte("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"),
		5: authorities(),
		8: nil,
	})
}

// authorities are the certificate authorities that Mozilla trusts without a
// condition, in the version that go.mod pins: the image does not depend on the
// machine that makes it.
func authorities() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // to memory
		}
	}
	return b.Bytes()
}

// layer makes a layer of the headers with the contents beside them.
func (r *release) layer(headers []tar.Header, contents [][]byte) (v1.Layer, error) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for i, h := range headers {
		var content []byte
		if i < len(contents) {
			content = contents[i]
		}
		h.Size, h.ModTime, h.Format = int64(len(content)), r.date, tar.FormatUSTAR
		if err := tw.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := tw.Write(content); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	raw := b.Bytes()
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
		tarball.WithMediaType(types.OCILayer))
}
