package oci_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
	"github.com/weightseal/weightseal/internal/realtools"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

// helperScript is a credential helper that keeps what it is given in a file
// beside it, one line a registry: registry, user, secret.
const helperScript = `#!/bin/sh
keep="$(dirname "$0")/kept"
touch "$keep"
case "$1" in
store)
	line=$(sed 's/.*"ServerURL":"\([^"]*\)","Username":"\([^"]*\)","Secret":"\([^"]*\)".*/\1 \2 \3/')
	grep -v "^${line%% *} " "$keep" >"$keep.new"; echo "$line" >>"$keep.new"; mv "$keep.new" "$keep" ;;
get)
	read -r server
	grep "^$server " "$keep" >/dev/null || { echo "credentials not found in native keychain"; exit 1; }
	grep "^$server " "$keep" | sed 's/\(.*\) \(.*\) \(.*\)/{"ServerURL":"\1","Username":"\2","Secret":"\3"}/' ;;
erase)
	read -r server
	grep -v "^$server " "$keep" >"$keep.new"; mv "$keep.new" "$keep" ;;
esac
`

// writeHelper puts the helper docker-credential-NAME into dir.
func writeHelper(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte(helperScript), 0o700); err != nil {
		t.Fatal(err)
	}
}

// A login that was saved is found again, by this program and by oras; whatever
// else is in the file stays.
func TestLoginFile(t *testing.T) {
	t.Parallel()
	addr := realtools.SecuredRegistry(t, realtools.Security{User: "user", Password: "se:cret"})
	for name, before := range map[string]string{
		"no file": "", "empty": "\n", "null": "null",
		"others": `{"HttpHeaders":{"X-Of-Theirs":"<1&2>"},"auths":{"other.example":{"auth":"b3RoZXI6c2VjcmV0","of":"theirs"}},"unknown":{"n":12345678901234567890}}`,
		"old":    `{"auths":{"http://` + addr + `/v1/":{"auth":"b2xkOm9sZA=="}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "sub", "config.json")
			if before != "" {
				writeTree(t, filepath.Dir(file), map[string][]byte{"config.json": []byte(before)})
			}
			account, err := oci.SaveLogin(file, addr, "user", "se:cret")
			if err != nil || !account.Plain || account.Place != file || account.Registry != addr {
				t.Fatalf("%+v, %v", account, err)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			checkKept(t, file, before)
			mustPush(t, openWith(t, addr, oci.Options{PlainHTTP: true, AuthFile: file}), ocitest.Random(1000, 1))
			run(t, ".", "oras", "repo", "ls", addr, "--plain-http", "--registry-config", file)

			if gone, err := oci.RemoveLogin(file, addr); err != nil || gone == nil {
				t.Fatalf("%+v, %v", gone, err)
			}
			checkKept(t, file, before)
			_, err = openWith(t, addr, oci.Options{PlainHTTP: true, AuthFile: file}).Resolve(t.Context(), "v1")
			checkError(t, err, is(oci.ErrUnauthorized))
			if again, err := oci.RemoveLogin(file, addr); err != nil || again != nil {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

func openWith(t *testing.T, addr string, opt oci.Options) oci.Store {
	t.Helper()
	s, _, err := oci.Open(addr+"/team/model", opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// checkKept wants what is not about the registry to be in the file still.
func checkKept(t *testing.T, file, before string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "http://") {
		t.Errorf("an old entry is still there: %s", data)
	}
	if !strings.Contains(before, "unknown") {
		return
	}
	var got struct {
		Headers map[string]string `json:"HttpHeaders"`
		Auths   map[string]map[string]string
		Unknown json.RawMessage
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Headers["X-Of-Theirs"] != "<1&2>" || got.Auths["other.example"]["of"] != "theirs" || !strings.Contains(string(data), `12345678901234567890`) {
		t.Errorf("something of others is lost: %s", data)
	}
}

// A link to the file stays one.
func TestLoginThroughLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeTree(t, dir, map[string][]byte{"real/config.json": []byte(`{}`)})
	link := filepath.Join(dir, "config.json")
	if err := os.Symlink("real/config.json", link); err != nil {
		t.Fatal(err)
	}
	if _, err := oci.SaveLogin(link, "registry.example", "user", "secret"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "real", "config.json")); err != nil || !strings.Contains(string(data), "registry.example") {
		t.Errorf("%s, %v", data, err)
	}
}

// A registry that repeats the password does not get it into an error.
func TestCheckLoginHidesPassword(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(*http.Request) string{
		"as it is":    func(*http.Request) string { return `{"errors":[{"code":"DENIED","message":"not secret"}]}` },
		"as it came":  func(r *http.Request) string { return "you said " + r.Header.Get("Authorization") },
		"in the code": func(*http.Request) string { return `{"errors":[{"code":"secret","message":"no"}]}` },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = io.WriteString(w, answer(r))
			}))
			t.Cleanup(srv.Close)
			err := oci.CheckLogin(t.Context(), srv.Listener.Addr().String(), oci.Options{PlainHTTP: true, Username: "user", Password: "secret"})
			checkError(t, err, is(oci.ErrUnauthorized), says("left out"))
			if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "dXNlcjpzZWNyZXQ=")) {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}

// What is no regular file is not read, so that nothing blocks, and stays.
func TestLoginNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := oci.SaveLogin(dir, "registry.example", "user", "secret"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("error %v", err)
	}
	if _, err := oci.RemoveLogin(os.DevNull, "registry.example"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("error %v", err)
	}
}

// What cannot be a file with credentials is left as it is.
func TestLoginRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ content, registry, user, says string }{
		"no JSON":      {"{", "registry.example", "user", "left as it is"},
		"a list":       {"[]", "registry.example", "user", "not a JSON object"},
		"auths a list": {`{"auths":[]}`, "registry.example", "user", "its auths are not"},
		"a path":       {"{}", "registry.example/team", "user", "no scheme, no path"},
		"a scheme":     {"{}", "https://registry.example", "user", "no scheme, no path"},
		"no registry":  {"{}", "", "user", "no scheme, no path"},
		"colon":        {"{}", "registry.example", "us:er", "a colon"},
		"no user":      {"{}", "registry.example", "", "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "config.json")
			writeTree(t, dir, map[string][]byte{"config.json": []byte(test.content)})
			_, err := oci.SaveLogin(file, test.registry, test.user, "secret")
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %q in it", err, test.says)
			}
			if data, _ := os.ReadFile(file); string(data) != test.content {
				t.Errorf("the file is now %s", data)
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 1 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

// Credentials go to the helper that the file names, and come from there. Not
// parallel: helpers are found on the PATH.
func TestLoginWithHelper(t *testing.T) {
	sec := realtools.Security{User: "user", Password: "secret"}
	addr := realtools.SecuredRegistry(t, sec)
	bin := t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	writeHelper(t, bin, "mine")
	for name, config := range map[string]string{
		"credsStore":  `{"credsStore":"mine"}`,
		"credHelpers": `{"credsStore":"missing","credHelpers":{"` + addr + `":"mine"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "config.json")
			writeTree(t, dir, map[string][]byte{"config.json": []byte(config)})
			account, err := oci.SaveLogin(file, addr, "user", "secret")
			if err != nil || account.Plain || account.Place != "docker-credential-mine" {
				t.Fatalf("%+v, %v", account, err)
			}
			data, err := os.ReadFile(file)
			if secret := base64.StdEncoding.EncodeToString([]byte("user:secret")); err != nil || strings.Contains(string(data), secret) {
				t.Errorf("the file holds the password: %s, %v", data, err)
			}
			mustPush(t, openWith(t, addr, oci.Options{PlainHTTP: true, AuthFile: file}), ocitest.Random(1000, 1))
			if gone, err := oci.RemoveLogin(file, addr); err != nil || gone == nil || gone.Username != "user" {
				t.Fatalf("%+v, %v", gone, err)
			}
			_, err = openWith(t, addr, oci.Options{PlainHTTP: true, AuthFile: file}).Resolve(t.Context(), "v1")
			checkError(t, err, is(oci.ErrUnauthorized))
			if again, err := oci.RemoveLogin(file, addr); err != nil || again != nil {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "config.json")
		writeTree(t, filepath.Dir(file), map[string][]byte{"config.json": []byte(`{"credsStore":"missing"}`)})
		var he *oci.HelperError
		if _, err := oci.SaveLogin(file, addr, "user", "secret"); !errors.As(err, &he) || he.Program != "docker-credential-missing" {
			t.Errorf("%v", err)
		}
	})
}

// podman's files are looked into after docker's, by namespace too.
func TestMoreAuthFiles(t *testing.T) {
	sec := realtools.Security{User: "user", Password: "secret"}
	addr := realtools.SecuredRegistry(t, sec)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	auth := base64.StdEncoding.EncodeToString([]byte("user:secret"))
	wrong := base64.StdEncoding.EncodeToString([]byte("user:wrong"))
	dir := t.TempDir()
	for name, test := range map[string]struct {
		content string
		ok      bool
	}{
		"registry":   {`{"auths":{"` + addr + `":{"auth":"` + auth + `"}}}`, true},
		"namespace":  {`{"auths":{"` + addr + `":{"auth":"` + wrong + `"},"` + addr + `/team":{"auth":"` + auth + `"}}}`, true},
		"repository": {`{"auths":{"` + addr + `/team":{"auth":"` + wrong + `"},"` + addr + `/team/model":{"auth":"` + auth + `"}}}`, true},
		"another":    {`{"auths":{"` + addr + `/te":{"auth":"` + auth + `"}}}`, false},
	} {
		writeTree(t, dir, map[string][]byte{"auth.json": []byte(test.content)})
		opt := oci.Options{PlainHTTP: true, MoreAuthFiles: []string{filepath.Join(dir, "none.json"), filepath.Join(dir, "auth.json")}}
		_, err := openWith(t, addr, opt).Resolve(t.Context(), "v1")
		want := oci.ErrNotFound
		if !test.ok {
			want = oci.ErrUnauthorized
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	missing := oci.Options{PlainHTTP: true, AuthFile: filepath.Join(dir, "none.json")}
	if _, err := openWith(t, addr, missing).Resolve(t.Context(), "v1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was asked for and is not there: %v", err)
	}
}

func TestCheckLogin(t *testing.T) {
	t.Parallel()
	sec := realtools.NewSecurity(t, "user", "secret")
	addr := realtools.SecuredRegistry(t, sec)
	open := realtools.Registry(t)
	for name, test := range map[string]struct {
		registry string
		opt      oci.Options
		wants    []wantError // nil for success
	}{
		"right":           {addr, oci.Options{CAFile: sec.CA, Username: "user", Password: "secret"}, nil},
		"wrong":           {addr, oci.Options{CAFile: sec.CA, Username: "user", Password: "wrong"}, []wantError{is(oci.ErrUnauthorized), status(401)}},
		"nobody":          {addr, oci.Options{CAFile: sec.CA, Username: "nobody", Password: "secret"}, []wantError{is(oci.ErrUnauthorized)}},
		"unknown CA":      {addr, oci.Options{Username: "user", Password: "secret"}, []wantError{says("certificate")}},
		"insecure":        {addr, oci.Options{Insecure: true, Username: "user", Password: "secret"}, nil},
		"wants nobody":    {open, oci.Options{PlainHTTP: true, Username: "user", Password: "secret"}, nil},
		"does not answer": {"127.0.0.1:1", oci.Options{PlainHTTP: true, Username: "user", Password: "secret"}, []wantError{says("refused")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := oci.CheckLogin(t.Context(), test.registry, test.opt)
			if test.wants == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			checkError(t, err, test.wants...)
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}

// A registry with tokens is asked for one without any scope.
func TestCheckLoginByToken(t *testing.T) {
	t.Parallel()
	auth := &tokenAuth{uses: 1000}
	addr := fp.Start(t, inProcess(t, false), auth.fault).Addr
	if err := oci.CheckLogin(t.Context(), addr, oci.Options{PlainHTTP: true, Username: "user", Password: "secret"}); err != nil {
		t.Error(err)
	}
	if got := strings.Join(auth.scopes, ""); got != "" {
		t.Errorf("scopes %q", got)
	}
	err := oci.CheckLogin(t.Context(), addr, oci.Options{PlainHTTP: true, Username: "user", Password: "wrong"})
	checkError(t, err, is(oci.ErrUnauthorized))
}
