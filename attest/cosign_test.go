package attest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
	"github.com/weightseal/weightseal/oci"
)

// The command lines of cosign v2 and v3 against a real registry.

// emptyRoot is a trusted root that trusts nobody: all that a key needs.
const emptyRoot = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`

// noServices is a signing configuration without log, time stamps or
// certificates.
const noServices = `{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}`

type cosigns struct {
	host  string
	paths map[string]string
	dir   string
}

func newCosigns(t *testing.T) *cosigns {
	t.Helper()
	c := &cosigns{host: realtools.Registry(t), dir: t.TempDir(), paths: map[string]string{}}
	for _, name := range []string{"cosign2", "cosign3"} {
		c.paths[name] = realtools.Path(t, name)
	}
	for name, text := range map[string]string{"root.json": emptyRoot, "services.json": noServices} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// run runs a cosign; it gives what it wrote to stdout, and an error with its
// stderr.
func (c *cosigns) run(t *testing.T, name string, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.paths[name], args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD="+testPassword, "HOME="+c.dir, "TUF_ROOT="+filepath.Join(c.dir, "tuf"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, &errs)
	}
	return out.Bytes(), nil
}

// open gives the store of a repository of its own.
func (c *cosigns) open(t *testing.T) oci.Store {
	t.Helper()
	repo := strings.ToLower(strings.NewReplacer("/", "-", " ", "-", ",", "", "+", "", "#", "-", "--", "-", "=", "-", ":", "").Replace(t.Name()))
	s, _, err := oci.Open(c.host+"/test/"+repo+":v1", oci.Options{PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ways are the ways to verify without a transparency log.
var ways = map[string][]string{
	"cosign2 key":    {"cosign2"},
	"cosign2 root":   {"cosign2", "--trusted-root", "root.json"},
	"cosign3 key":    {"cosign3"},
	"cosign3 root":   {"cosign3", "--trusted-root", "root.json"},
	"cosign3 legacy": {"cosign3", "--new-bundle-format=false"},
}

func (c *cosigns) verify(t *testing.T, way string, m *testModel, k *testKey) error {
	t.Helper()
	w := ways[way]
	args := append([]string{"verify-attestation", "--key", k.public, "--insecure-ignore-tlog", "--type", PredicateType}, w[1:]...)
	out, err := c.run(t, w[0], append(args, m.store.Reference(m.subject.Digest.String()))...)
	if err == nil && !bytes.Contains(out, []byte(`"payload":`)) {
		return fmt.Errorf("%s prints no payload: %s", way, out)
	}
	return err
}

// attestWays are the ways to make an attestation without a log.
var attestWays = map[string][]string{
	"cosign2 legacy":   {"cosign2", "--tlog-upload=false"},
	"cosign2 bundle":   {"cosign2", "--tlog-upload=false", "--new-bundle-format"},
	"cosign3 services": {"cosign3", "--signing-config", "services.json"},
	"cosign3 bundle":   {"cosign3", "--use-signing-config=false", "--tlog-upload=false"},
	"cosign3 legacy":   {"cosign3", "--use-signing-config=false", "--tlog-upload=false", "--new-bundle-format=false"},
}

func (c *cosigns) attest(t *testing.T, way string, m *testModel, k *testKey, predicateType string, p any) {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	w := attestWays[way]
	args := append([]string{"attest", "--yes", "--key", k.private, "--type", predicateType, "--predicate", write(t, "predicate.json", raw)}, w[1:]...)
	if _, err := c.run(t, w[0], append(args, m.store.Reference(m.subject.Digest.String()))...); err != nil {
		t.Fatal(err)
	}
}

func TestCosign(t *testing.T) {
	t.Parallel()
	c := newCosigns(t)
	t.Run("they verify ours", c.verifyOurs)
	t.Run("we verify theirs", c.verifyTheirs)
	t.Run("nobody verifies", c.attacks)
	t.Run("other kinds of key", c.otherKeys)
	t.Run("foreign bundle", c.foreignBundle)
	t.Run("documented policy", c.documentedPolicy)
}

// What Attach writes, in each of the ways that can accept it.
func (c *cosigns) verifyOurs(t *testing.T) {
	t.Parallel()
	k := key(t, ourKey)
	for form, test := range map[string]struct {
		forms int
		good  []string
		bad   []string
	}{
		"both":   {inBundle | inLegacy, []string{"cosign2 root", "cosign3 key", "cosign3 root", "cosign3 legacy"}, nil},
		"legacy": {inLegacy, []string{"cosign2 key", "cosign2 root", "cosign3 key", "cosign3 root", "cosign3 legacy"}, nil},
		"bundle": {inBundle, []string{"cosign2 root", "cosign3 key", "cosign3 root"}, []string{"cosign3 legacy"}},
	} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			m := pushModel(t, c.open(t), "v1", form)
			if test.forms == inBundle|inLegacy {
				m.attach(t, k, m.statement(t))
			} else {
				m.plant(t, k, sign(t, k, m.statement(t)), test.forms)
			}
			if _, err := verify(m, trustOurs(t)); err != nil {
				t.Errorf("we refuse it: %v", err)
			}
			for _, way := range test.good {
				if err := c.verify(t, way, m, k); err != nil {
					t.Errorf("%s: %v", way, err)
				}
			}
			for _, way := range test.bad {
				if c.verify(t, way, m, k) == nil {
					t.Errorf("%s accepts it: the documentation says that it does not", way)
				}
			}
		})
	}
}

// What the command lines write with our predicate: Statement v0.1, numbers
// that went through float64, other key order.
func (c *cosigns) verifyTheirs(t *testing.T) {
	t.Parallel()
	k := key(t, ourKey)
	for way := range attestWays {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			m := pushModel(t, c.open(t), "v1", way)
			p, err := m.predicate().Completed()
			if err != nil {
				t.Fatal(err)
			}
			c.attest(t, way, m, k, PredicateType, p)
			v, err := verify(m, trustOurs(t))
			if err != nil {
				t.Fatal(err)
			}
			if got := v.Predicate(); got.Level != 4 || got.Summary != p.Summary || !bytes.Contains(v.Payload(), []byte("Statement/v0.1")) {
				t.Errorf("read as %+v from %s", got, v.Payload())
			}
			if _, err := verify(m, Trust{Keys: []PublicKey{key(t, otherKey).trusted}}); err == nil {
				t.Error("any key will do")
			}
			// Ours beside theirs, and theirs of another type beside both.
			m.attach(t, k, m.statement(t))
			c.attest(t, way, m, k, "https://example.org/other/v1", map[string]any{"a": 1})
			if _, err := verify(m, trustOurs(t)); err != nil {
				t.Errorf("with ours and another: %v", err)
			}
			if err := c.verify(t, "cosign3 root", m, k); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("another type alone", func(t *testing.T) {
		t.Parallel()
		m := pushModel(t, c.open(t), "v1", "x")
		c.attest(t, "cosign3 bundle", m, k, "https://example.org/other/v1", map[string]any{"a": 1})
		if _, err := verify(m, trustOurs(t)); !errors.Is(err, ErrNoAttestation) {
			t.Errorf("got %v", err)
		}
	})
}

// Attacks that the command lines refuse too.
func (c *cosigns) attacks(t *testing.T) {
	t.Parallel()
	k := key(t, ourKey)
	all := badEnvelopes()
	for _, name := range []string{"of another digest", "altered payload", "wrong key", "payload type exchanged", "other predicate type"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := pushModel(t, c.open(t), "v1", name)
			m.plant(t, k, all[name].make(t, m), inBundle|inLegacy)
			if _, err := verify(m, trustOurs(t)); err == nil {
				t.Error("we accept it")
			}
			for _, way := range []string{"cosign2 root", "cosign3 root", "cosign3 legacy"} {
				if c.verify(t, way, m, k) == nil {
					t.Errorf("%s accepts it", way)
				}
			}
		})
	}
}

// Keys other than cosign's own kind: what we sign, a key file verifies.
func (c *cosigns) otherKeys(t *testing.T) {
	t.Parallel()
	for name, signer := range someKeys(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			private, public := keyPair(t, signer)
			s, err := LoadSigner(private, nil)
			if err != nil {
				t.Fatal(err)
			}
			k := &testKey{private: private, public: public, signer: s}
			if k.trusted, err = LoadPublicKey(public); err != nil {
				t.Fatal(err)
			}
			m := pushModel(t, c.open(t), "v1", name)
			m.attach(t, k, m.statement(t))
			if _, err := verify(m, Trust{Keys: []PublicKey{k.trusted}}); err != nil {
				t.Error(err)
			}
			for _, way := range []string{"cosign2 root", "cosign3 root"} {
				if err := c.verify(t, way, m, k); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Somebody else's bundle hides the legacy form from the command lines; with
// both forms written, theirs and ours still verify.
func (c *cosigns) foreignBundle(t *testing.T) {
	t.Parallel()
	k, other := key(t, ourKey), key(t, otherKey)
	m := pushModel(t, c.open(t), "v1", "m")
	m.attach(t, k, m.statement(t))
	m.plant(t, other, sign(t, other, m.statement(t)), inBundle|inLegacy)
	m.plantBundle(t, []byte("garbage"))
	v, err := verify(m, trustOurs(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Ignored()) != 2 { // theirs once, for both forms, and the garbage
		t.Errorf("ignored: %v", v.Ignored())
	}
	for _, way := range []string{"cosign2 root", "cosign3 key", "cosign3 root", "cosign3 legacy"} {
		if err := c.verify(t, way, m, k); err != nil {
			t.Error(err)
		}
	}
}

// The files that docs/statement.md gives are the ones used here, and its policy
// does what it says.
func (c *cosigns) documentedPolicy(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join("..", "docs", "statement.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, snippet := range []string{emptyRoot, noServices} {
		if !bytes.Contains(doc, []byte("echo '"+snippet+"' >")) {
			t.Errorf("docs/statement.md does not have %s", snippet)
		}
	}
	_, rego, _ := strings.Cut(string(doc), "```rego\n")
	rego, _, ok := strings.Cut(rego, "```")
	if !ok {
		t.Fatal("docs/statement.md has no Rego policy")
	}
	policy := write(t, "compliance.rego", []byte(rego))
	k := key(t, ourKey)
	for want, change := range map[bool]func(*Predicate){
		true:  func(*Predicate) {},
		false: func(p *Predicate) { p.Files[1].Role = "code" }, // level 1
	} {
		m := pushModel(t, c.open(t), "v1", fmt.Sprint(want))
		m.attach(t, k, m.statement(t, change))
		for _, name := range []string{"cosign2", "cosign3"} {
			_, err := c.run(t, name, "verify-attestation", "--policy", policy, "--key", k.public, "--insecure-ignore-tlog",
				"--trusted-root", "root.json", "--type", PredicateType, m.store.Reference(m.subject.Digest.String()))
			if (err == nil) != want {
				t.Errorf("%s: got %v, want acceptance %v", name, err, want)
			}
		}
	}
}

// Several writers of one subject, on a registry that has no conditional
// write: every bundle is there, and a reader is satisfied.
func TestRegistryConcurrent(t *testing.T) {
	t.Parallel()
	s, _, err := oci.Open(realtools.Registry(t)+"/test/concurrent:v1", oci.Options{PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	m := pushModel(t, s, "v1", "m")
	k := key(t, ourKey)
	errs := make(chan error)
	const n = 3
	for i := range n {
		env := sign(t, k, m.statement(t, func(p *Predicate) { p.Tool.Version = string(rune('a' + i)) }))
		go func() {
			_, err := Attach(context.Background(), m.store, m.subject, env, k.signer)
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := len(m.referrers(t)); got != n {
		t.Errorf("%d bundles, not %d", got, n)
	}
	if _, layers, _ := m.legacyOf(t); len(layers) != n {
		t.Errorf("%d legacy attestations, not %d", len(layers), n)
	}
	if _, err := verify(m, trustOurs(t)); err != nil {
		t.Error(err)
	}
}

// BenchmarkVerify times a verification as a command makes it, on the loopback
// interface.
func BenchmarkVerify(b *testing.B) {
	s, _, err := oci.Open(realtools.Registry(b)+"/test/bench:v1", oci.Options{PlainHTTP: true})
	if err != nil {
		b.Fatal(err)
	}
	m := pushModel(b, s, "v1", "m")
	m.attach(b, key(b, ourKey), m.statement(b))
	trust := trustOurs(b)
	for b.Loop() {
		// A new store each time, as a command has it: no cache, no session.
		if m.store, _, err = oci.Open(s.Reference(m.subject.Digest.String()), oci.Options{PlainHTTP: true}); err != nil {
			b.Fatal(err)
		}
		if _, err := verify(m, trust); err != nil {
			b.Fatal(err)
		}
	}
}
