//go:build unix

package cli

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
)

// forwardProxy is an HTTP proxy that knows one registry: it forwards requests
// (RFC 9112, 3.2.2) and makes tunnels (RFC 9110, 9.3.6), and notes both.
type forwardProxy struct {
	url      string
	registry string // where registry.example is
	mu       sync.Mutex
	seen     []string
}

func startForwardProxy(t *testing.T, registry string) *forwardProxy {
	t.Helper()
	p := &forwardProxy{registry: registry}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.seen = append(p.seen, r.Method+" "+r.Host)
		p.mu.Unlock()
		if host, _, _ := net.SplitHostPort(r.Host); host != "registry.example" && r.Host != "registry.example" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.Method == http.MethodConnect {
			p.tunnel(t, w)
			return
		}
		(&httputil.ReverseProxy{Rewrite: func(pr *httputil.ProxyRequest) { pr.Out.URL.Host = p.registry }}).ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

func (p *forwardProxy) tunnel(t *testing.T, w http.ResponseWriter) {
	there, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.registry)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	here, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		there.Close()
		return
	}
	_, _ = io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { _, _ = io.Copy(there, here); there.Close() }()
	go func() { _, _ = io.Copy(here, there); here.Close() }()
}

func (p *forwardProxy) requests() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.seen, "\n")
}

// The variables that name a proxy are those of every other program, and a
// registry that only the proxy can reach is reached.
func TestProxy(t *testing.T) {
	t.Parallel()
	sec := realtools.NewSecurity(t, "", "")
	open, secured := realtools.Registry(t), realtools.SecuredRegistry(t, sec)
	model := t.TempDir()
	if err := os.WriteFile(model+"/model.safetensors", readCorpus(t, "checkpoints/handmade/st/ok.safetensors"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		registry, host string
		env            []string // @ stands for the proxy's URL
		flags          []string
		via            string // what the proxy sees; empty where it must see nothing
	}{
		"http":             {open, "registry.example:5000", []string{"HTTP_PROXY=@"}, []string{"--plain-http"}, "PUT registry.example:5000"},
		"http, lower case": {open, "registry.example", []string{"http_proxy=@"}, []string{"--plain-http"}, "PUT registry.example"},
		"https":            {secured, "registry.example:5000", []string{"HTTPS_PROXY=@"}, []string{"--ca-file", sec.CA}, "CONNECT registry.example:5000"},
		"https, any name":  {secured, "registry.example", []string{"https_proxy=@"}, []string{"--insecure"}, "CONNECT registry.example:443"},
		"not for it":       {open, "registry.example:5000", []string{"HTTPS_PROXY=@"}, []string{"--plain-http"}, ""},
		"no proxy":         {open, "registry.example:5000", []string{"HTTP_PROXY=@", "NO_PROXY=other.example,.example"}, []string{"--plain-http"}, ""},
		"no proxy, any":    {secured, "registry.example", []string{"HTTPS_PROXY=@", "no_proxy=*"}, []string{"--ca-file", sec.CA}, ""},
		"another's":        {open, "registry.example:5000", []string{"HTTP_PROXY=@", "NO_PROXY=other.example"}, []string{"--plain-http"}, "PUT registry.example:5000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := startForwardProxy(t, test.registry)
			cmd := exec.CommandContext(t.Context(), builtProgram(t), append([]string{"push", model, test.host + "/team/model:v1", "--no-sign"}, test.flags...)...)
			cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
			for _, kv := range test.env {
				cmd.Env = append(cmd.Env, strings.ReplaceAll(kv, "@", proxy.url))
			}
			out, err := cmd.CombinedOutput()
			seen := proxy.requests()
			if test.via == "" {
				if cmd.ProcessState.ExitCode() != exitNetwork || seen != "" {
					t.Errorf("%v; the proxy saw %q\n%s", err, seen, out)
				}
				return
			}
			if err != nil || !strings.Contains(seen, test.via) {
				t.Errorf("%v; the proxy saw %q, want %q\n%s", err, seen, test.via, out)
			}
		})
	}
}
