package workload

import (
	"strings"
)

// OCI is the scheme of what is in a registry.
const OCI = "oci"

// maxReference is the length of the longest reference, in bytes: a name in a
// registry has at most 255, a storage URI of KServe is a URL.
const maxReference = 2048

// A Reference names a model.
type Reference struct {
	Text   string // as it is written
	Scheme string // oci, hf, s3, pvc, https, ...; "" for what cannot be understood
	// Registry is the reference as a registry's client takes it, always with a
	// host; only for OCI.
	Registry string
	// Digest is the sha256 digest that it is pinned to; "" without one.
	Digest string
	// Problem says why it cannot be understood.
	Problem string
}

// Key is the same for references that lead to the same thing.
func (r Reference) Key() string {
	if r.Scheme == OCI {
		return OCI + "://" + r.Registry
	}
	return r.Text
}

// ociSchemes are the URI schemes of models in registries: KServe's
// (pkg/constants, OciURIPrefix and those beside it), Helm's downloader of ours,
// and that of the containers/image library.
var ociSchemes = []string{"oci://", "oci+native://", "oci+fetch://", "weightseal+oci://", "docker://"}

var (
	schemePattern = pattern(`^([A-Za-z][A-Za-z0-9+.-]*)://`)
	// hostPattern is the domain of a reference (distribution/reference,
	// regexp.go), with its port.
	hostPattern   = pattern(`^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]+)?$`)
	pathPattern   = pattern(`^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$`)
	tagPattern    = pattern(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	digestPattern = pattern(`^sha256:[a-f0-9]{64}$`)
	hubPattern    = pattern(`^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*(?:@[A-Za-z0-9_./-]+)?$`)
)

// ParseURI reads a storage URI, as KServe has it.
func ParseURI(text string) Reference {
	if bad := unfit(text); bad != "" {
		return Reference{Text: text, Problem: bad}
	}
	for _, prefix := range ociSchemes {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			r := ParseImage(rest)
			r.Text = text
			return r
		}
	}
	m := schemePattern().FindStringSubmatch(text)
	if m == nil {
		return Reference{Text: text, Problem: "no URI: it has no scheme, such as oci://"}
	}
	scheme := strings.ToLower(m[1])
	if scheme == "huggingface" {
		scheme = "hf"
	}
	return Reference{Text: text, Scheme: scheme}
}

// ParseImage reads an image reference as Kubernetes does: without a host it is
// on Docker Hub.
func ParseImage(text string) Reference {
	r := Reference{Text: text}
	if r.Problem = unfit(text); r.Problem != "" {
		return r
	}
	rest, digest, pinned := strings.Cut(text, "@")
	if pinned && !digestPattern().MatchString(digest) {
		r.Problem = "the digest is not sha256: and 64 lowercase hexadecimal digits"
		return r
	}
	host, path, ok := strings.Cut(rest, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, path = "docker.io", rest
		if !ok {
			path = "library/" + rest
		}
	}
	tag := ""
	if colon := strings.LastIndexByte(path, ':'); colon >= 0 {
		path, tag = path[:colon], path[colon+1:]
		if !tagPattern().MatchString(tag) {
			r.Problem = "no image reference: the tag has characters that a tag cannot have"
			return r
		}
	}
	if !hostPattern().MatchString(host) || !pathPattern().MatchString(path) {
		r.Problem = "no image reference: want REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:..."
		return r
	}
	r.Scheme, r.Digest, r.Registry = OCI, digest, host+"/"+path
	switch {
	case pinned:
		r.Registry += "@" + digest
	case tag != "":
		r.Registry += ":" + tag
	default:
		r.Registry += ":latest"
	}
	return r
}

// At gives the reference of a digest in the same repository.
func (r Reference) At(digest string) Reference {
	repo := r.Registry
	if at := strings.IndexByte(repo, '@'); at >= 0 {
		repo = repo[:at]
	} else if colon := strings.LastIndexByte(repo, ':'); colon > strings.LastIndexByte(repo, '/') {
		repo = repo[:colon]
	}
	return ParseImage(repo + "@" + digest)
}

// unfit says what keeps a text from being any reference.
func unfit(text string) string {
	switch {
	case text == "":
		return "empty"
	case len(text) > maxReference:
		return "too long for a reference"
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return "a reference has no blanks or control characters"
	}
	return ""
}

// guessed are the schemes that stand for models wherever they are seen.
var guessed = map[string]bool{
	"hf": true, "s3": true, "gs": true, "pvc": true, "hdfs": true, "webhdfs": true, "ollama": true,
	"modelscope": true, "ngc": true, "ms": true, "abfs": true, "abfss": true, "wasbs": true, OCI: true,
}

// weightNames are how the names of files with weights end.
var weightNames = pattern(`(?i)\.(safetensors|gguf|bin|pt|pth|ckpt|onnx|h5|keras|pkl|joblib|npz|tar|tar\.gz|tgz|zip)$`)

// guess reads the value of an argument or a variable that is said to be a
// model's name; false for paths, names of hosted models and the rest.
func guess(value string) (Reference, bool) {
	if unfit(value) != "" || strings.HasPrefix(value, "hf://datasets/") || strings.HasPrefix(value, "hf://spaces/") {
		return Reference{}, false
	}
	if schemePattern().MatchString(value) {
		r := ParseURI(value)
		if r.Scheme == "https" || r.Scheme == "http" {
			return r, strings.HasPrefix(strings.SplitN(value, "://", 2)[1], "huggingface.co/") || weightNames().MatchString(strings.SplitN(value, "?", 2)[0])
		}
		return r, guessed[r.Scheme]
	}
	first, _, ok := strings.Cut(value, "/")
	switch {
	case !ok || first == "" || strings.ContainsAny(value, "$~{\\"):
		return Reference{}, false
	case hosted(first):
		r := ParseImage(value)
		return r, r.Problem == ""
	case hubPattern().MatchString(value) && !strings.HasPrefix(value, "."):
		return Reference{Text: "hf://" + value, Scheme: "hf"}, true
	}
	return Reference{}, false
}

// hosted says whether the first part of a reference is a host.
func hosted(first string) bool {
	return first != "." && first != ".." && (strings.ContainsAny(first, ".:") || first == "localhost")
}
