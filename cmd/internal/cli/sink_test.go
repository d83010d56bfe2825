package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// Output that could not be written is an error of every command.
func TestLostOutput(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"completion", "bash"}, {"plugin"}} {
		var stderr bytes.Buffer
		code := run(t.Context(), append([]string{"weightseal"}, args...), &streams{in: strings.NewReader(""), out: fullDisk{}, err: &stderr})
		if code != exitError || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%v: exit code %d, %q", args, code, stderr.String())
		}
	}
}
