package oci

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/cli/cli/config/types"
	"github.com/docker/docker-credential-helpers/client"
	helpers "github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// maxAuthFile is the largest file with credentials read, in bytes.
const maxAuthFile = 4 << 20

// keychain is where credentials are looked for.
func (o Options) keychain() authn.Keychain {
	if o.AuthFile != "" {
		return authFile{path: o.AuthFile, must: true}
	}
	chain := []authn.Keychain{dockerKeychain{}}
	for _, path := range o.MoreAuthFiles {
		chain = append(chain, authFile{path: path})
	}
	return authn.NewMultiKeychain(chain...)
}

// dockerKeychain is docker's own, whose errors name what gave them.
type dockerKeychain struct{}

// Resolve asks docker's config.json, and the helper that it names.
func (dockerKeychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	got, err := authn.DefaultKeychain.Resolve(target)
	if err != nil {
		return nil, &HelperError{Program: "docker's credentials", Err: err}
	}
	return got, nil
}

// authFile is a file with credentials as a keychain.
type authFile struct {
	path string
	must bool // it is an error that there is none
}

// Resolve looks for the repository, then for what is above it, then for the
// registry: docker keeps credentials by registry, podman also by namespace.
func (a authFile) Resolve(target authn.Resource) (authn.Authenticator, error) {
	data, err := readFile(a.path, maxAuthFile)
	if !a.must && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
		return authn.Anonymous, nil // somebody else's home holds no credentials of ours
	}
	if err != nil {
		return nil, err
	}
	file, err := config.LoadFromReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: not a file with credentials: %w", a.path, err)
	}
	maps.DeleteFunc(file.AuthConfigs, func(key string, _ types.AuthConfig) bool {
		return strings.Contains(key, "/") && !strings.Contains(key, "://") && !within(target.String(), key)
	})
	for key := target.String(); key != ""; key = above(key) {
		got, err := file.AuthConfigs[key], error(nil)
		if key == target.RegistryStr() {
			got, err = file.GetAuthConfig(authKey(key))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.path, err)
		}
		if got.ServerAddress = ""; got != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{
				Username: got.Username, Password: got.Password, Auth: got.Auth,
				IdentityToken: got.IdentityToken, RegistryToken: got.RegistryToken,
			}), nil
		}
	}
	return authn.Anonymous, nil
}

// within says whether a repository is the namespace or below it.
func within(repository, namespace string) bool {
	return repository == namespace || strings.HasPrefix(repository, namespace+"/")
}

// above takes the last part of a path away; nothing is above a registry.
func above(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return ""
	}
	return path[:i]
}

// authKey is the name under which docker keeps a registry's credentials: its
// own registry has an old one.
func authKey(registry string) string {
	if registry == name.DefaultRegistry {
		return authn.DefaultAuthKey
	}
	return registry
}

// Account is a user at a registry, as it is kept.
type Account struct {
	Registry string // host and port, as references have it
	Username string
	// Place is where the credentials are: the path of a file, or the name of
	// a helper program.
	Place string
	// Plain says that Place is a file, which holds the password readably.
	Plain bool
}

// SaveLogin keeps credentials for a registry in a file of the form of docker's
// config.json, or with the helper program that the file names in credHelpers
// or credsStore. Everything else in the file stays. The file is written
// atomically, with permissions for its owner alone.
func SaveLogin(file, registry, username, password string) (*Account, error) {
	host, err := registryHost(registry)
	if err != nil {
		return nil, err
	}
	if username == "" || strings.ContainsAny(username, ":\x00") {
		return nil, fmt.Errorf("user name %q: it is empty, or has a colon or NUL in it", username)
	}
	doc, err := readAuthDocument(file)
	if err != nil {
		return nil, err
	}
	account := &Account{Registry: host, Username: username, Place: doc.helper(authKey(host))}
	entry := map[string]string{}
	if account.Place == "" {
		account.Place, account.Plain = file, true
		entry["auth"] = base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
	} else {
		creds := &helpers.Credentials{ServerURL: authKey(host), Username: username, Secret: password}
		if err := client.Store(client.NewShellProgramFunc(account.Place), creds); err != nil {
			return nil, helperError(account.Place, err)
		}
	}
	doc.forget(host)
	if err := doc.put(authKey(host), entry); err != nil {
		return nil, err
	}
	return account, doc.write()
}

// RemoveLogin takes the credentials for a registry away from where SaveLogin
// puts them. The result is nil where there were none.
func RemoveLogin(file, registry string) (*Account, error) {
	host, err := registryHost(registry)
	if err != nil {
		return nil, err
	}
	doc, err := readAuthDocument(file)
	if err != nil {
		return nil, err
	}
	account := &Account{Registry: host, Place: doc.helper(authKey(host))}
	erased := false
	if account.Place == "" {
		account.Place, account.Plain = file, true
	} else if erased, err = eraseFromHelper(account, authKey(host)); err != nil {
		return nil, err
	}
	if doc.forget(host) {
		erased = true
		if err := doc.write(); err != nil {
			return nil, err
		}
	}
	if !erased {
		return nil, nil
	}
	return account, nil
}

// Logins lists the registries that a file of the form of docker's config.json
// has entries for, sorted. No helper program is asked.
func Logins(file string) ([]string, error) {
	doc, err := readAuthDocument(file)
	if err != nil {
		return nil, err
	}
	var names []string
	for key := range doc.auths {
		names = append(names, credentials.ConvertToHostname(key))
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// eraseFromHelper gives false where the helper had nothing.
func eraseFromHelper(account *Account, key string) (bool, error) {
	program := client.NewShellProgramFunc(account.Place)
	had, err := client.Get(program, key)
	if helpers.IsErrCredentialsNotFound(err) {
		return false, nil
	}
	if err == nil {
		account.Username = had.Username
		err = client.Erase(program, key)
	}
	return err == nil, helperError(account.Place, err)
}

// HelperError says that a helper program for credentials failed.
type HelperError struct {
	Program string
	Err     error
}

func (e *HelperError) Error() string { return e.Program + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *HelperError) Unwrap() error { return e.Err }

func helperError(program string, err error) error {
	if err == nil {
		return nil
	}
	return &HelperError{Program: program, Err: err}
}

// registryHost checks the name of a registry.
func registryHost(registry string) (string, error) {
	r, err := name.NewRegistry(registry)
	if registry == "" || strings.Contains(registry, "/") || err != nil {
		return "", &ReferenceError{Ref: registry, Reason: "a registry is a host, with a port where it needs one: no scheme, no path"}
	}
	return r.RegistryStr(), nil
}

// authDocument is a file of the form of docker's config.json. What this
// program does not know is kept as it is.
type authDocument struct {
	path   string
	fields map[string]json.RawMessage
	auths  map[string]json.RawMessage
}

func readAuthDocument(path string) (*authDocument, error) {
	doc := &authDocument{path: path, fields: map[string]json.RawMessage{}, auths: map[string]json.RawMessage{}}
	// A pipe would block where nothing can interrupt it, and be replaced.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file, and is left as it is")}
	}
	data, err := readFile(path, maxAuthFile)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(data)) == 0 {
		return doc, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &doc.fields); err != nil {
		return nil, fmt.Errorf("%s: not a JSON object, and is left as it is: %w", path, err)
	}
	if raw, ok := doc.fields["auths"]; ok {
		if err := json.Unmarshal(raw, &doc.auths); err != nil {
			return nil, fmt.Errorf("%s: its auths are not a JSON object, and are left as they are: %w", path, err)
		}
	}
	if doc.fields == nil { // it said null
		doc.fields = map[string]json.RawMessage{}
	}
	if doc.auths == nil {
		doc.auths = map[string]json.RawMessage{}
	}
	return doc, nil
}

// helper is the program that keeps the credentials of a registry; "" for the
// file itself.
func (d *authDocument) helper(key string) string {
	var byHost map[string]string
	var all string
	_ = json.Unmarshal(d.fields["credHelpers"], &byHost) // what is no map of names names none
	_ = json.Unmarshal(d.fields["credsStore"], &all)
	suffix := all
	if own, ok := byHost[key]; ok {
		suffix = own
	}
	if suffix == "" {
		return ""
	}
	return "docker-credential-" + suffix
}

// forget removes a registry's entries, also those with a scheme and a path as
// old clients wrote them.
func (d *authDocument) forget(host string) (had bool) {
	for key := range d.auths {
		if key == authKey(host) || strings.Contains(key, "://") && credentials.ConvertToHostname(key) == host {
			delete(d.auths, key)
			had = true
		}
	}
	return had
}

func (d *authDocument) put(key string, entry map[string]string) error {
	raw, err := json.Marshal(entry)
	d.auths[key] = raw
	return err
}

// write replaces the file. A link to it stays a link.
func (d *authDocument) write() error {
	auths, err := json.Marshal(d.auths)
	if err != nil {
		return err
	}
	d.fields["auths"] = auths
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(d.fields); err != nil {
		return err
	}
	target := d.path
	if resolved, err := filepath.EvalSymlinks(target); err == nil {
		target = resolved
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	return writeAtomicMode(target, b.Bytes(), 0o600)
}

// CheckLogin asks a registry whether it takes the credentials in opt. A
// registry that wants none takes any. Errors are *NetworkError, with
// ErrUnauthorized inside where the registry refuses them.
func CheckLogin(ctx context.Context, registry string, opt Options) error {
	host, err := registryHost(registry)
	if err != nil {
		return err
	}
	var opts []name.Option
	if opt.PlainHTTP {
		opts = append(opts, name.Insecure)
	}
	// The repository is never asked for: a session has one.
	repo, err := name.NewRepository(host+"/login", opts...)
	if err != nil {
		return &ReferenceError{Ref: registry, Reason: err.Error()}
	}
	r, err := newRegistry(repo, opt)
	if err != nil {
		return err
	}
	r.pull.scope = ""
	_, err = r.small(ctx, r.pull, "log in to", host, request{
		method: http.MethodGet, want: []int{http.StatusOK},
		url: &url.URL{Scheme: "https", Host: host, Path: "/v2/"},
	}, MaxManifest)
	if e := new(RegistryError); errors.As(err, &e) && opt.Password != "" && saysPassword(e.Code+e.Message, opt) {
		e.Code, e.Message = "", "(it repeats the password, so what it says is left out)"
	}
	return err
}

// saysPassword says whether an answer has the password in it, as it is or as it
// was sent: an error ends up in logs.
func saysPassword(answer string, opt Options) bool {
	return strings.Contains(answer, opt.Password) ||
		strings.Contains(answer, base64.StdEncoding.EncodeToString([]byte(opt.Username+":"+opt.Password)))
}
