package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/policy"
)

// registryFlags are the flags of every command that may reach a registry,
// named as oras and crane name them.
type registryFlags struct {
	plainHTTP, insecure bool
	caFile, username    string
	passwordStdin       bool
	config              string
	concurrency         int
}

func (r *registryFlags) add(f *pflag.FlagSet) {
	r.addAccess(f)
	f.IntVar(&r.concurrency, "concurrency", 4, "files in flight at a time")
}

// addAccess adds the flags that say how a registry is reached, and as whom.
func (r *registryFlags) addAccess(f *pflag.FlagSet) {
	r.concurrency = 1
	r.addTransport(f)
	f.StringVarP(&r.username, "username", "u", "", "user `name` for the registry (default: as docker, podman or weightseal login left it)")
	f.BoolVar(&r.passwordStdin, "password-stdin", false, "read the registry password from standard input")
}

// addTransport adds the flags that say how a registry is reached, and no user:
// for commands that others tell which registries to ask.
func (r *registryFlags) addTransport(f *pflag.FlagSet) {
	f.BoolVar(&r.plainHTTP, "plain-http", false, "the registry has no TLS")
	f.BoolVar(&r.insecure, "insecure", false, "do not verify the registry's TLS certificate")
	f.StringVar(&r.caFile, "ca-file", "", "PEM `file` of a certificate authority to trust")
	addRegistryConfig(f, &r.config)
}

func addRegistryConfig(f *pflag.FlagSet, file *string) {
	f.StringVar(file, "registry-config", "", "`file` with the registries' credentials, instead of docker's config.json")
}

func (r *registryFlags) options(s *streams) (oci.Options, error) {
	opt := oci.Options{
		PlainHTTP: r.plainHTTP, Insecure: r.insecure, CAFile: r.caFile, Username: r.username,
		AuthFile: r.config, MoreAuthFiles: podmanAuthFiles(s),
		Concurrency: r.concurrency, UserAgent: program + "/" + strings.TrimPrefix(buildVersion(), "v"),
	}
	if r.concurrency < 1 {
		return opt, usage("--concurrency 4", "--concurrency %d: want at least 1", r.concurrency)
	}
	var err error
	switch {
	case r.passwordStdin && r.username == "":
		return opt, usage("--username NAME --password-stdin", "--password-stdin needs --username")
	case r.passwordStdin:
		if opt.Password, err = readLine(s.in); err != nil {
			return opt, usage("echo \"$PASSWORD\" | weightseal ... --username NAME --password-stdin", "--password-stdin: %w", err)
		}
	case r.username != "" && s.inTTY:
		pw, err := ask(s, "password of "+printable(r.username)+": ")
		if err != nil {
			return opt, err
		}
		opt.Password = string(pw)
	case r.username != "":
		return opt, usage("echo \"$PASSWORD\" | weightseal ... --username "+policy.ShellQuote(r.username)+" --password-stdin", "--username needs --password-stdin")
	}
	return opt, nil
}

// podmanAuthFiles are the files in which podman, skopeo and buildah look for
// credentials (containers-auth.json(5)).
func podmanAuthFiles(s *streams) []string {
	var files []string
	if own := s.getenv("REGISTRY_AUTH_FILE"); own != "" {
		files = append(files, own)
	}
	if dir := s.getenv("XDG_RUNTIME_DIR"); dir != "" {
		files = append(files, filepath.Join(dir, "containers", "auth.json"))
	}
	if dir := s.getenv("XDG_CONFIG_HOME"); dir != "" {
		files = append(files, filepath.Join(dir, "containers", "auth.json"))
	} else if home := s.getenv("HOME"); home != "" {
		files = append(files, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	return files
}

// selection is the part of a model that a command works on.
type selection struct{ include, exclude []string }

func (sel *selection) add(f *pflag.FlagSet) {
	f.StringArrayVar(&sel.include, "include", nil, "only files that match this `glob` (repeatable; ** crosses folders)")
	f.StringArrayVar(&sel.exclude, "exclude", nil, "leave out files that match this `glob` (repeatable)")
}

// apply filters the files of a model.
func (sel *selection) apply(m *model.Model) error {
	in, err := compileGlobs("include", sel.include)
	if err != nil {
		return err
	}
	ex, err := compileGlobs("exclude", sel.exclude)
	if err != nil {
		return err
	}
	kept := m.Files[:0:0]
	for _, f := range m.Files {
		if (len(in) == 0 || in.match(f.Path)) && !ex.match(f.Path) {
			kept = append(kept, f)
		}
	}
	m.Files = kept
	return nil
}

// openModel opens a SOURCE: a directory, a file, oci:DIR[:TAG] or a reference
// in a registry. For a model on disk the origin is nil.
func openModel(ctx context.Context, source string, opt oci.Options) (*model.Model, *origin, error) {
	found, err := findSource(ctx, source, opt)
	if err != nil {
		return nil, nil, err
	}
	m, err := model.Load(ctx, found.name, found.files)
	if err != nil || found.store == nil {
		return m, nil, err
	}
	from := &origin{store: found.store, digest: found.digest, statement: attest.Origin{URI: found.store.Reference(found.digest)}}
	for _, f := range m.Files {
		from.statement.Files = append(from.statement.Files, attest.OriginFile{Path: f.Path, Digest: f.Digest})
	}
	return m, from, nil
}

// foundSource is a SOURCE that was found, and not looked into yet.
type foundSource struct {
	name   string // of the model
	files  model.Source
	store  oci.Store // nil for what is on disk
	digest string    // of the artifact's manifest, in a store
}

// findSource says where a SOURCE is.
func findSource(ctx context.Context, source string, opt oci.Options) (*foundSource, error) {
	if !strings.HasPrefix(source, "oci:") {
		src, err := localSource(source)
		if err != nil {
			return nil, err
		}
		if src != nil {
			return &foundSource{name: filepath.Base(filepath.Clean(source)), files: src}, nil
		}
	}
	store, tag, err := oci.Open(source, opt)
	if err != nil {
		return nil, err
	}
	subject, manifest, err := resolve(ctx, store, tag)
	if err != nil {
		return nil, err
	}
	src, err := oci.Source(store, manifest)
	if err != nil {
		return nil, err
	}
	return &foundSource{name: source, files: src, store: store, digest: subject.Digest.String()}, nil
}

// origin is where a model was read from, if that was a store: the artifact, by
// digest, with its files.
type origin struct {
	store     oci.Store
	digest    string // of the manifest
	statement attest.Origin
}

// localSource gives the source for what is on disk; nil when nothing is there
// and the name may be a reference.
func localSource(path string) (model.Source, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return model.Dir(path), nil
	case err == nil:
		return model.SingleFile(path), nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case !looksRemote(path):
		return nil, fail(exitError, fmt.Errorf("%s: no such file or directory", path), missingHints(path)[0],
			"a model in a registry is written REGISTRY/REPOSITORY:TAG, a layout on disk oci:DIR:TAG")
	}
	return nil, nil
}

// looksRemote says whether a SOURCE that is not on disk may be a reference:
// its first part is a host.
func looksRemote(source string) bool {
	host, _, ok := strings.Cut(source, "/")
	return ok && host != "." && host != ".." && (strings.ContainsAny(host, ".:") || host == "localhost")
}

func loadPolicy(name string) (*policy.Policy, error) { return policy.Builtin(name) }

func addPolicy(f *pflag.FlagSet, name *string) {
	f.StringVar(name, "policy", policy.DefaultName, "policy to apply: "+strings.Join(policy.Names(), " or "))
}
