package oci

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// layoutPrefix starts a reference to an OCI image layout.
const layoutPrefix = "oci:"

// tagPattern and digestPattern are those of the distribution specification
// ("Pulling manifests"); of digests only sha256 is handled.
var (
	tagPattern    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	digestPattern = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)
)

// isDigest says whether s is a sha256 digest in its only form.
func isDigest(s string) bool { return digestPattern.MatchString(s) }

// checkDigest is isDigest as an error.
func checkDigest(s string) error {
	if !isDigest(s) {
		return &UnsupportedError{What: s, Reason: "not a sha256 digest (sha256: and 64 lowercase hexadecimal digits)"}
	}
	return nil
}

// Open parses a reference and opens its store. ref is REGISTRY/REPO[:TAG] or
// REGISTRY/REPO@DIGEST as docker writes it, or oci:DIR[:TAG] or
// oci:DIR@DIGEST. tagOrDigest is "latest" where the reference names none.
//
// In oci:DIR:TAG the last colon counts, if a valid tag follows it.
//
// Registries are spoken to by HTTPS. Plain HTTP needs Options.PlainHTTP, with
// one exception that docker makes too: the loopback names localhost,
// *.localhost, 127.0.0.1 and [::1], where HTTP is tried when HTTPS is not
// answered. With PlainHTTP it is only ever HTTP. Credentials come from
// Options, else from docker's configuration and its credential helpers;
// proxies from the environment as for any Go program.
//
// No connection is made before the first method is called.
func Open(ref string, opt Options) (s Store, tagOrDigest string, err error) {
	if rest, ok := strings.CutPrefix(ref, layoutPrefix); ok {
		dir, tag, err := splitLayout(ref, rest)
		if err != nil {
			return nil, "", err
		}
		return newLayout(dir), tag, nil
	}
	repo, tag, err := splitRegistry(ref, opt.PlainHTTP)
	if err != nil {
		return nil, "", err
	}
	r, err := newRegistry(repo, opt)
	if err != nil {
		return nil, "", err
	}
	return r, tag, nil
}

// NamesVersion says whether a reference has a tag or a digest in it, or names a
// repository as a whole. It does not say that the reference is well-formed.
func NamesVersion(ref string) bool {
	if rest, ok := strings.CutPrefix(ref, layoutPrefix); ok {
		dir, _, err := splitLayout(ref, rest)
		return err == nil && dir != filepath.Clean(rest)
	}
	return strings.ContainsAny(ref[strings.LastIndexByte(ref, '/')+1:], ":@")
}

// splitLayout takes DIR, DIR:TAG or DIR@DIGEST apart.
func splitLayout(ref, rest string) (dir, tagOrDigest string, err error) {
	dir, tagOrDigest = rest, name.DefaultTag
	if at := strings.LastIndexByte(rest, '@'); at >= 0 && strings.HasPrefix(rest[at+1:], "sha256:") {
		dir, tagOrDigest = rest[:at], rest[at+1:]
		if !isDigest(tagOrDigest) {
			return "", "", &ReferenceError{Ref: ref, Reason: "the digest is not sha256: and 64 lowercase hexadecimal digits"}
		}
	} else if colon := strings.LastIndexByte(rest, ':'); colon >= 0 && tagPattern.MatchString(rest[colon+1:]) {
		dir, tagOrDigest = rest[:colon], rest[colon+1:]
	}
	if dir == "" {
		return "", "", &ReferenceError{Ref: ref, Reason: "no directory after oci:"}
	}
	if strings.IndexByte(dir, 0) >= 0 {
		return "", "", &ReferenceError{Ref: ref, Reason: "NUL in the directory"}
	}
	dir = filepath.Clean(dir)
	if strings.HasSuffix(dir, "@sha256") {
		// DIR:TAG would then read like DIR@DIGEST.
		return "", "", &ReferenceError{Ref: ref, Reason: "the directory's name ends like a digest"}
	}
	return dir, tagOrDigest, nil
}

// splitRegistry takes a docker-style reference apart. A reference with both
// tag and digest means the digest.
func splitRegistry(ref string, plain bool) (repo name.Repository, tagOrDigest string, err error) {
	if at := userinfo(ref); at >= 0 {
		// The parser's reason would repeat the password.
		return name.Repository{}, "", &ReferenceError{Ref: maskUserinfo(ref), Reason: "a reference has no user, password or other digest than sha256 in it: weightseal login keeps credentials"}
	}
	var opts []name.Option
	if plain {
		opts = append(opts, name.Insecure)
	}
	parsed, err := name.ParseReference(ref, opts...)
	if err != nil {
		return name.Repository{}, "", &ReferenceError{Ref: ref, Reason: err.Error()}
	}
	id := parsed.Identifier()
	if _, ok := parsed.(name.Digest); ok && !isDigest(id) {
		return name.Repository{}, "", &ReferenceError{Ref: ref, Reason: "the digest is not sha256: and 64 lowercase hexadecimal digits"}
	}
	return parsed.Context(), id, nil
}

// isLoopback says whether a host, with or without port, is this machine by
// name: the hosts for which plain HTTP needs no option.
func isLoopback(host string) bool {
	if h, port, ok := cutPort(host); ok && port != "" {
		host = h
	}
	host = strings.Trim(host, "[]")
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || host == "127.0.0.1" || host == "::1"
}

// cutPort splits host:port; a bare IPv6 address has no port.
func cutPort(host string) (h, port string, ok bool) {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.IndexByte(host[i:], ']') >= 0 {
		return host, "", false
	}
	if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
		return host, "", false
	}
	return host[:i], host[i+1:], true
}

// digestSuffix is what ends a reference by digest, well-formed or not.
var digestSuffix = regexp.MustCompile(`@sha(256|384|512):[^@]*$`)

// userinfo finds the @ that ends user and password, as in a URL; -1 without.
func userinfo(ref string) int {
	if loc := digestSuffix.FindStringIndex(ref); loc != nil {
		ref = ref[:loc[0]]
	}
	return strings.LastIndexByte(ref, '@')
}

// maskUserinfo replaces user and password. A layout's directory may have an
// @ in its name.
func maskUserinfo(ref string) string {
	at := userinfo(ref)
	if at < 0 || strings.HasPrefix(ref, layoutPrefix) {
		return ref
	}
	start := 0
	if i := strings.Index(ref[:at], "://"); i >= 0 {
		start = i + len("://")
	}
	return ref[:start] + "***" + ref[at:]
}
