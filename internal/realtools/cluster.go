package realtools

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Cluster is a real API server with its etcd on free ports of 127.0.0.1, and
// nothing else of Kubernetes: objects are stored and served, and no pod runs.
type Cluster struct {
	// Kubeconfig is for a user who may do everything, and has the contexts
	// admin for that one, limited for the user of that name, who may do what
	// the test allows, and nightly, which acts as the service account scan in
	// the namespace weightseal.
	Kubeconfig string
	Kubectl    string

	addr   string
	client *http.Client
}

// Kubectl finds the user's kubectl.
func Kubectl(tb testing.TB) string {
	tb.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil {
		tb.Fatalf("kubectl is missing: `make test-deps` installs it (%v)", err)
	}
	return path
}

// StartCluster starts one and waits until it is ready; it ends with the test.
func StartCluster(tb testing.TB) *Cluster {
	tb.Helper()
	c := &Cluster{Kubectl: Kubectl(tb), client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the server makes its certificate while it starts
	}}}
	tb.Cleanup(c.client.CloseIdleConnections)
	etcd, apiserver := Path(tb, "etcd"), Path(tb, "kube-apiserver")
	for range 5 {
		dir := tb.TempDir()
		client, peer, secure := freeAddr(tb), freeAddr(tb), freeAddr(tb)
		startGuarded(tb, filepath.Join(dir, "etcd.log"), etcd, "--name=test", "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=error",
			"--listen-client-urls=http://"+client, "--advertise-client-urls=http://"+client,
			"--listen-peer-urls=http://"+peer, "--initial-advertise-peer-urls=http://"+peer, "--initial-cluster=test=http://"+peer)
		log := filepath.Join(dir, "apiserver.log")
		_, exited := startGuarded(tb, log, append([]string{apiserver}, apiserverFlags(tb, dir, "http://"+client, secure)...)...)
		c.addr = secure
		if c.ready(tb.Context(), exited) {
			c.Kubeconfig = kubeconfig(tb, dir, secure)
			return c
		}
		said, _ := os.ReadFile(log)
		tb.Logf("kube-apiserver: %s", said[max(0, len(said)-2000):])
	}
	tb.Fatal("kube-apiserver does not start")
	return nil
}

// The users' tokens. The server ends with the test, and only this machine
// reaches it.
const (
	adminToken   = "admin-of-the-test"
	limitedToken = "limited-in-the-test"
)

func apiserverFlags(tb testing.TB, dir, etcd, secure string) []string {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	keyFile, tokens := filepath.Join(dir, "sa.key"), filepath.Join(dir, "tokens.csv")
	for name, content := range map[string][]byte{
		keyFile: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		tokens:  fmt.Appendf(nil, "%s,admin,1,\"system:masters\"\n%s,limited,2\n", adminToken, limitedToken),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	_, port, _ := net.SplitHostPort(secure)
	return []string{
		"--etcd-servers=" + etcd, "--bind-address=127.0.0.1", "--secure-port=" + port, "--cert-dir=" + filepath.Join(dir, "certs"),
		"--service-account-key-file=" + keyFile, "--service-account-signing-key-file=" + keyFile, "--service-account-issuer=https://test.example",
		"--token-auth-file=" + tokens, "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		// There is no controller manager that would make service accounts, and
		// no address for others to reach the server.
		"--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
	}
}

// kubeconfig writes one for the server's own certificate.
func kubeconfig(tb testing.TB, dir, secure string) string {
	tb.Helper()
	_, port, _ := net.SplitHostPort(secure)
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: admin
clusters:
- name: test
  cluster: {server: "https://127.0.0.1:%s", tls-server-name: kubernetes, certificate-authority: %q}
users:
- {name: admin, user: {token: %s}}
- {name: limited, user: {token: %s}}
- {name: nightly, user: {token: %s, as: "system:serviceaccount:weightseal:scan"}}
contexts:
- {name: admin, context: {cluster: test, user: admin}}
- {name: limited, context: {cluster: test, user: limited}}
- {name: nightly, context: {cluster: test, user: nightly}}
`, port, filepath.Join(dir, "certs", "apiserver.crt"), adminToken, limitedToken, adminToken)
	path := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// ready waits until the server says that it is. Roles that its start makes are
// part of that.
func (c *Cluster) ready(ctx context.Context, exited <-chan struct{}) bool {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		select {
		case <-exited:
			return false
		case <-ctx.Done():
			return false
		case <-time.After(50 * time.Millisecond):
		}
		if c.call(ctx, http.MethodGet, "/readyz", "") == nil {
			return true
		}
	}
	return false
}

// Post creates an object, as JSON, at a path of the server: for many of them,
// where kubectl would hold itself back.
func (c *Cluster) Post(ctx context.Context, path, object string) error {
	return c.call(ctx, http.MethodPost, path, object)
}

func (c *Cluster) call(ctx context.Context, method, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.addr+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, said)
	}
	return err
}

// Do runs kubectl as the admin, with text as its input, and gives its output.
func (c *Cluster) Do(tb testing.TB, text string, args ...string) string {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), c.Kubectl, args...)
	// Its cache of what the server has must not be another server's on the
	// same port.
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "HOME="+filepath.Dir(c.Kubeconfig), "KUBECACHEDIR="+filepath.Join(filepath.Dir(c.Kubeconfig), "cache"))
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
