package cli

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
)

// pasteable is what a hint has that can be typed: a command, or a flag.
var pasteable = regexp.MustCompile(`(^|[ :])(weightseal|docker|oras|ls|df|curl|mkdir|mv|python3|echo|export)( |$)|--[a-z]|[A-Z_]{4,}=|https://|oci:|did you mean: /`)

// refused is a port where nothing listens.
func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestEveryErrorHasAHint: whatever goes wrong, the last lines say what to type.
func TestEveryErrorHasAHint(t *testing.T) {
	t.Parallel()
	dir := placed(t, map[string][]byte{
		"pytorch_model.bin": readCorpus(t, "checkpoints/tied.pt"), "notes.txt": []byte("text\n"), "torn.safetensors": []byte("\x40\x00\x00\x00\x00\x00\x00\x00{\"a\":{\"dtype\":\"F32\""),
		"not.pub": []byte("no key\n"), "not.json": []byte("{"),
	})
	file := func(name string) string { return filepath.Join(dir, name) }
	empty := t.TempDir()
	nobody, origin := refused(t), watched(t)
	answers := func(code int, id string) string { return fp.Start(t, origin.Addr, fp.Status(code, id)).Addr }
	key, pub, other := keyFile(t, "ours.key"), keyFile(t, "ours.pub"), keyFile(t, "other.pub")
	weights := placed(t, map[string][]byte{"pytorch_model.bin": readCorpus(t, "checkpoints/tied.pt")})
	signed := origin.Addr + "/hint/signed:v1"
	execute(t, "push", weights, signed, "--plain-http", "--key", key).succeeded(t)
	unsigned := origin.Addr + "/hint/unsigned:v1"
	execute(t, "push", weights, unsigned, "--plain-http", "--no-sign").succeeded(t)
	for _, c := range []struct {
		args string
		want string // in a hint
	}{
		// The command line.
		{"pusch", "did you mean: weightseal push"},
		{"frobnicate", "weightseal --help"},
		{"plugin instal docker", "did you mean: weightseal plugin install"},
		{"plugin install dokcer", "weightseal plugin install docker"},
		{"push a", "weightseal push --help"},
		{"push a b c", "weightseal push --help"},
		{"push a b --polcy x", "did you mean: weightseal push --policy"},
		{"scan a --fail-onn x", "did you mean: weightseal scan --fail-on"},
		{"scan a --zzzzzz", "weightseal scan --help"},
		{"scan a -z", "weightseal scan --help"},
		{"scan DIR --color blue", "--color auto"},
		{"scan FILE", "weightseal convert FILE OUT"},
		{"scan DIR --output jason", "did you mean: --output json"},
		{"scan DIR --progress life", "--progress"},
		{"scan DIR --fail-on sometimes", "--fail-on review"},
		{"scan DIR --memory much", "--memory 64MiB"},
		{"scan DIR --exclude [a", "--exclude '*.bin'"},
		{"scan DIR --include *.zzz", "--include '*.bin'"},
		{"scan DIR --baseline nothere.yaml", "ls"},
		{"scan DIR --concurrency 0", "--concurrency 4"},
		{"push DIR NOBODY/a/b:c --no-sign --policy safetensor-only", "did you mean: --policy safetensors-only"},
		{"push DIR NOBODY/a/b:c", "weightseal keygen"},
		{"push DIR NOBODY/a/b:c --key KEY --no-sign", "--no-sign"},
		{"push DIR UPPER --no-sign", "REGISTRY/REPOSITORY:TAG"},
		{"push EMPTY NOBODY/a/b:c --no-sign", "ls "},
		{"push DIR NOBODY/a/b:c --no-sign --username me", "--password-stdin"},
		{"push DIR NOBODY/a/b:c --no-sign --max-shard-size 5XB", "--max-shard-size 5GB"},
		{"pull NOBODY/a/b:c EMPTY/out", "--key cosign.pub"},
		{"pull NOBODY/a/b:c EMPTY/out --key PUB --no-verify", "--no-verify"},
		{"pull NOBODY/a/b:c DIR --key PUB", "--overwrite"},
		{"pull NOBODY/a/b:c EMPTY/out --no-verify --fail-on review", "--scan"},
		{"verify NOBODY/a/b:c", "--key cosign.pub"},
		{"convert DIR", "weightseal convert DIR OUTDIR"},
		{"convert DIR --to gguf", "--to safetensors"},
		{"convert FILE FILE", "another name"},
		{"convert FILE EMPTY/no/such/out", "mkdir -p"},
		{"diff DIR DIR --limit -1", "--limit 0"},
		{"inspect DIR --key PUB", "weightseal push"},
		{"sign-blob FILE", "weightseal keygen"},
		{"verify-blob FILE --key PUB", "--signature"},
		{"attest-blob FILE --key KEY", "--predicate"},
		{"attest-blob FILE --key KEY --type t --predicate NOTJSON", "python3 -m json.tool"},
		{"verify-blob-attestation FILE --key PUB", "--type"},

		// Files.
		{"scan nowhere", "ls ."},
		{"scan DIR/pytorch_modl.bin", "did you mean: DIR/pytorch_model.bin"},
		{"sign-blob DIR/note.txt --key KEY", "did you mean: DIR/notes.txt"},
		{"inspect DIR/torn.safetensors", "weightseal scan"},
		{"convert DIR/notes.txt EMPTY/out", "weightseal"},
		{"diff EMPTY DIR", "ls "},
		{"diff DIR/notes.txt FILE", "weightseal inspect"},

		// Keys.
		{"push DIR NOBODY/a/b:c --key nothere.key", "weightseal keygen"},
		{"push DIR NOBODY/a/b:c --key NOTKEY", "weightseal keygen"},
		{"verify NOBODY/a/b:c --key nothere.pub", "cosign.pub"},
		{"verify NOBODY/a/b:c --key NOTKEY", "cosign.pub"},
		{"verify NOBODY/a/b:c --key KEY", "cosign.pub"},
		{"verify-blob FILE --key PUB --signature NOTJSON", "weightseal"},

		// Registries.
		{"verify NOBODY/a/b:c --key PUB --plain-http", "curl -sS"},
		{"verify no-such-host.invalid/a/b:c --key PUB", "curl -sS https://no-such-host.invalid/v2/"},
		{"verify UNAUTHORIZED/a/b:c --key PUB --plain-http", "weightseal login UNAUTHORIZED"},
		{"verify FORBIDDEN/a/b:c --key PUB --plain-http", "weightseal login FORBIDDEN"},
		{"verify REG/a/nothere:c --key PUB --plain-http", "weightseal tags "},
		{"verify oci:nothere:v1 --key PUB", "weightseal"},
		{"inspect REG/a/nothere:c --plain-http", "weightseal tags "},

		// Trust.
		{"verify UNSIGNED --key PUB --plain-http", "weightseal push SOURCE REF --key cosign.key"},
		{"verify SIGNED --key OTHER --plain-http", "weightseal inspect REF"},
		{"inspect SIGNED --key OTHER --plain-http", "weightseal inspect "},
		{"pull SIGNED EMPTY/out --key OTHER --plain-http", "--key OTHER.pub"},
	} {
		names := strings.NewReplacer("NOTJSON", file("not.json"), "NOTKEY", file("not.pub"), "DIR/", dir+"/", "UNAUTHORIZED", answers(http.StatusUnauthorized, "UNAUTHORIZED"),
			"FORBIDDEN", answers(http.StatusForbidden, "DENIED"), "NOBODY", nobody, "REG", origin.Addr, "UNSIGNED", unsigned, "SIGNED", signed, "EMPTY", empty,
			"FILE", file("pytorch_model.bin"), "KEY", key, "PUB", pub, "OTHER", other)
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			var args []string
			for _, a := range strings.Fields(c.args) {
				if a == "DIR" {
					a = dir
				}
				args = append(args, names.Replace(a))
			}
			r := execute(t, args...)
			if r.code == exitOK {
				t.Fatalf("it succeeds: %s", r.out)
			}
			var hints []string
			for line := range strings.Lines(r.err) {
				if h, ok := strings.CutPrefix(strings.TrimSpace(line), "hint: "); ok {
					hints = append(hints, h)
				}
			}
			want := c.want
			if strings.HasPrefix(want, "did you mean: DIR/") || strings.HasPrefix(want, "weightseal login") || strings.HasPrefix(want, "weightseal convert FILE") {
				want = names.Replace(want)
			}
			all := strings.Join(hints, "\n")
			if !strings.Contains(all, want) || !pasteable.MatchString(all) {
				t.Errorf("hints %q, want %q in one, and something to paste\n%s", hints, want, r.err)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"push", "pull", "verify", "safetensors-only", "fail-on", "include"}
	for in, want := range map[string]string{
		"pusch": "push", "psuh": "push", "verfy": "verify", "verification": "", "safetensor-only": "safetensors-only", "incl": "include",
		"failon": "fail-on", "zzz": "", "": "", "PUSH": "push", strings.Repeat("x", 10000): "",
	} {
		if got := nearest(in, words); got != want {
			t.Errorf("%.20q is near %q, want %q", in, got, want)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cosign.pub"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := nearFile(filepath.Join(dir, "cosing.pub")); got != filepath.Join(dir, "cosign.pub") {
		t.Errorf("%q", got)
	}
	if got := nearFile(filepath.Join(dir, "nothere", "cosign.pub")); got != "" {
		t.Errorf("%q", got)
	}
}
