package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weightseal/weightseal/attest"
)

// password gives the password of a signing key as cosign does: COSIGN_PASSWORD
// when it is set (even to nothing), else it is asked for on a terminal, else it
// is the first line of standard input.
func password(s *streams, confirm bool) func() ([]byte, error) {
	return func() ([]byte, error) {
		if s.has("COSIGN_PASSWORD") {
			return []byte(s.getenv("COSIGN_PASSWORD")), nil
		}
		if !s.inTTY {
			line, err := readLine(s.in)
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, fail(exitUsage, errors.New("the key needs a password, and standard input is empty"), "set COSIGN_PASSWORD: export COSIGN_PASSWORD=...")
			}
			return []byte(line), err
		}
		pw, err := ask(s, "password for the private key: ")
		if err != nil || !confirm {
			return pw, err
		}
		again, err := ask(s, "once more: ")
		if err == nil && !bytes.Equal(pw, again) {
			err = fail(exitUsage, errors.New("the two passwords differ"), "run it again, or set it: COSIGN_PASSWORD=... weightseal keygen")
		}
		return pw, err
	}
}

func ask(s *streams, prompt string) ([]byte, error) {
	fmt.Fprint(s.err, prompt)
	defer fmt.Fprintln(s.err)
	return term.ReadPassword(int(os.Stdin.Fd()))
}

// readLine reads one line, without its end.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(r).ReadString('\n')
	if line == "" && errors.Is(err, io.EOF) {
		return "", io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// readTerminalLine reads one line and nothing after it: what follows is read by
// others.
func readTerminalLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		if n == 1 && b[0] == '\n' {
			return strings.TrimRight(string(line), "\r"), nil
		}
		line = append(line, b[:n]...)
		if err != nil {
			return "", err
		}
	}
}

func newKeygen(s *streams) *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a cosign key pair",
		Long: `Make a cosign key pair: cosign.key, encrypted with a password, and cosign.pub, in
the working directory. cosign reads both.`,
		Example: "  COSIGN_PASSWORD=secret weightseal keygen",
		Args:    exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			keyFile, pubFile := prefix+".key", prefix+".pub"
			for _, f := range []string{keyFile, pubFile} {
				if _, err := os.Lstat(f); err == nil {
					return usage("choose another name: --output-key-prefix NAME", "%s exists and is not overwritten", f)
				}
			}
			pw, err := password(s, true)()
			if err != nil {
				return err
			}
			private, public, err := attest.GenerateKey(pw)
			if err != nil {
				return err
			}
			if err := writeNew(keyFile, private, 0o600); err != nil {
				return err
			}
			if err := writeNew(pubFile, public, 0o644); err != nil {
				return errors.Join(err, os.Remove(keyFile))
			}
			fmt.Fprintf(s.out, "%s\n%s\n", keyFile, pubFile)
			return nil
		},
	}
	cmd.Flags().StringVar(&prefix, "output-key-prefix", "cosign", "`name` of the files, without .key and .pub")
	return cmd
}

// writeNew writes a file that must not exist yet.
func writeNew(name string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}
