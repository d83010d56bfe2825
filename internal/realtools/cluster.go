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
	// Kubeconfig is for a user who may do everything. Its contexts admin and
	// limited are for that one and for the user named limited, who may do what
	// the test allows.
	Kubeconfig string
	Kubectl    string
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
	c := &Cluster{Kubectl: Kubectl(tb)}
	etcd, apiserver := Path(tb, "etcd"), Path(tb, "kube-apiserver")
	for range 5 {
		dir := tb.TempDir()
		client, peer, secure := freeAddr(tb), freeAddr(tb), freeAddr(tb)
		startGuarded(tb, filepath.Join(dir, "etcd.log"), etcd, "--name=test", "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=error",
			"--listen-client-urls=http://"+client, "--advertise-client-urls=http://"+client,
			"--listen-peer-urls=http://"+peer, "--initial-advertise-peer-urls=http://"+peer, "--initial-cluster=test=http://"+peer)
		log := filepath.Join(dir, "apiserver.log")
		_, exited := startGuarded(tb, log, append([]string{apiserver}, apiserverFlags(tb, dir, "http://"+client, secure)...)...)
		if ready(tb.Context(), secure, exited) {
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
contexts:
- {name: admin, context: {cluster: test, user: admin}}
- {name: limited, context: {cluster: test, user: limited}}
`, port, filepath.Join(dir, "certs", "apiserver.crt"), adminToken, limitedToken)
	path := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// ready waits until the server says that it is. Roles that its start makes are
// part of that.
func ready(ctx context.Context, addr string, exited <-chan struct{}) bool {
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it makes its certificate while it starts
	}}
	defer client.CloseIdleConnections()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		select {
		case <-exited:
			return false
		case <-ctx.Done():
			return false
		case <-time.After(50 * time.Millisecond):
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+"/readyz", nil)
		if err != nil {
			return false
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		resp, err := client.Do(req)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return true
		}
	}
	return false
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
