package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/policy"
)

// What is read of a signature, a predicate or an envelope, in bytes.
const (
	maxSignatureFile = 64 << 10
	maxStatementFile = 16 << 20
)

func newSignBlob(s *streams) *cobra.Command {
	var key, output string
	cmd := &cobra.Command{
		Use:   "sign-blob FILE",
		Short: "Sign a file",
		Long: `Sign the bytes of a file: base64 of an ECDSA signature with SHA-256, on standard
output or in --output-signature. cosign verify-blob takes it, and openssl once it is decoded.`,
		Example: "  weightseal sign-blob checksums.txt --key cosign.key --output-signature checksums.txt.sig",
		Args:    exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			signer, err := blobSigner(s, key)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			sig, err := attest.SignBlob(cmd.Context(), signer, f)
			if err != nil {
				return err
			}
			return writeResult(s, output, []byte(sig+"\n"))
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "private key `file` to sign with (cosign.key), or env://VARIABLE")
	cmd.Flags().StringVar(&output, "output-signature", "", "write the signature to this `file`")
	return cmd
}

func newVerifyBlob(s *streams) *cobra.Command {
	var keys []string
	var signature string
	cmd := &cobra.Command{
		Use:     "verify-blob FILE",
		Short:   "Verify a file's signature",
		Long:    `Verify that a trusted key signed exactly these bytes. Exit code 4 says that none did.`,
		Example: "  weightseal verify-blob checksums.txt --key weightseal.pub --signature checksums.txt.sig",
		Args:    exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			trusted, err := blobTrust(s, keys)
			if err != nil {
				return err
			}
			if signature == "" {
				return usage("name the file with the signature: --signature "+policy.ShellQuote(args[0]+".sig"), "--signature is missing")
			}
			sig, err := readLimited(signature, maxSignatureFile)
			if err != nil {
				return err
			}
			open := func() (io.ReadCloser, error) { return os.Open(args[0]) }
			by, err := attest.VerifyBlob(cmd.Context(), open, string(sig), trusted)
			if err != nil {
				return untrusted(args[0], err)
			}
			fmt.Fprintf(s.err, "%s: signed by %s\n", printable(args[0]), printable(by))
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "public key `file` to trust, or env://VARIABLE (repeatable)")
	cmd.Flags().StringVar(&signature, "signature", "", "`file` with the signature")
	return cmd
}

func newAttestBlob(s *streams) *cobra.Command {
	var key, predicate, predicateType, output string
	cmd := &cobra.Command{
		Use:   "attest-blob FILE...",
		Short: "Sign a statement about files",
		Long: `Sign an in-toto statement about files: their SHA-256 digests under their base names,
with the predicate in --predicate, as a DSSE envelope on standard output or in
--output-attestation. cosign verify-blob-attestation takes it.`,
		Example: "  weightseal attest-blob app.tar.gz --key cosign.key --type https://slsa.dev/provenance/v1 --predicate provenance.json",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd.CommandPath()+" --help", "missing argument FILE (usage: %s)", cmd.UseLine())
			}
			if predicate == "" || predicateType == "" {
				return usage("--type https://slsa.dev/provenance/v1 --predicate provenance.json", "--predicate and --type are both needed")
			}
			signer, err := blobSigner(s, key)
			if err != nil {
				return err
			}
			envelope, err := attestFiles(cmd.Context(), args, predicateType, predicate, signer)
			if err != nil {
				return err
			}
			return writeResult(s, output, append(envelope, '\n'))
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "private key `file` to sign with (cosign.key), or env://VARIABLE")
	f.StringVar(&predicate, "predicate", "", "`file` with the predicate, a JSON object")
	f.StringVar(&predicateType, "type", "", "`URI` of the predicate's type")
	f.StringVar(&output, "output-attestation", "", "write the envelope to this `file`")
	return cmd
}

func attestFiles(ctx context.Context, files []string, predicateType, predicateFile string, signer attest.Signer) ([]byte, error) {
	predicate, err := readLimited(predicateFile, maxStatementFile)
	if err != nil {
		return nil, err
	}
	if !json.Valid(predicate) {
		return nil, usage("see where it breaks: python3 -m json.tool "+policy.ShellQuote(predicateFile), "--predicate %s: not JSON", predicateFile)
	}
	var subjects []attest.BlobSubject
	for _, file := range files {
		digest, err := blobDigest(file)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(file)
		if slices.ContainsFunc(subjects, func(b attest.BlobSubject) bool { return b.Name == name }) {
			return nil, usage("give one of them another name: mv "+policy.ShellQuote(file)+" NEW-"+policy.ShellQuote(name), "two files are called %s: the statement could not tell them apart", name)
		}
		subjects = append(subjects, attest.BlobSubject{Name: name, Digest: digest})
	}
	statement, err := attest.NewBlobStatement(subjects, predicateType, predicate)
	if err != nil {
		return nil, err
	}
	return signer.Sign(ctx, statement)
}

func newVerifyBlobAttestation(s *streams) *cobra.Command {
	var keys []string
	var signature, predicateType, output string
	cmd := &cobra.Command{
		Use:   "verify-blob-attestation FILE",
		Short: "Verify a statement about a file",
		Long: `Verify that a trusted key signed the statement in --signature (a DSSE envelope), that
the file's SHA-256 is among its subjects, and that it is of the type --type. Exit code 4
says that it is not so.`,
		Example: "  weightseal verify-blob-attestation app.tar.gz --key weightseal.pub --signature app.intoto.json --type https://slsa.dev/provenance/v1",
		Args:    exactArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf("output", output, "text", "statement"); err != nil {
				return err
			}
			trusted, err := blobTrust(s, keys)
			if err != nil {
				return err
			}
			if signature == "" || predicateType == "" {
				return usage("--signature "+policy.ShellQuote(args[0]+".intoto.json")+" --type https://slsa.dev/provenance/v1", "--signature and --type are both needed")
			}
			envelope, err := readLimited(signature, maxStatementFile)
			if err != nil {
				return err
			}
			digest, err := blobDigest(args[0])
			if err != nil {
				return err
			}
			verified, err := attest.VerifyBlobStatement(envelope, digest, predicateType, trusted)
			if err != nil {
				return untrusted(args[0], err)
			}
			if output == "statement" {
				fmt.Fprintf(s.out, "%s\n", verified.Payload)
				return nil
			}
			fmt.Fprintf(s.err, "%s: %s of %s, signed by %s\n", printable(args[0]), printable(verified.PredicateType), printable(verified.Subject), printable(verified.Key))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&keys, "key", nil, "public key `file` to trust, or env://VARIABLE (repeatable)")
	f.StringVar(&signature, "signature", "", "`file` with the envelope")
	f.StringVar(&predicateType, "type", "", "`URI` of the predicate's type")
	f.StringVarP(&output, "output", "o", "text", "text, or statement (the signed payload)")
	return cmd
}

func blobSigner(s *streams, key string) (attest.Signer, error) {
	if key == "" {
		return nil, usage("make a key pair: weightseal keygen", "nothing to sign with: --key is missing")
	}
	return signingKey(s, key)
}

func blobTrust(s *streams, keys []string) (attest.Trust, error) {
	if len(keys) == 0 {
		return attest.Trust{}, usage("name the key that signed it: --key cosign.pub", "nobody to trust: --key is missing")
	}
	return trust(s, keys)
}

// untrusted is the error of a verification. A file that cannot be read is no
// verdict about it.
func untrusted(file string, err error) error {
	var unread *os.PathError
	if errors.As(err, &unread) || errors.Is(err, context.Canceled) {
		return err
	}
	return fail(exitAttestation, fmt.Errorf("%s: %w", file, err))
}

func blobDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, f, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// readLimited reads a small file.
func readLimited(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fail(exitError, fmt.Errorf("%s: larger than %d bytes", path, most), "is it the right file? ls -l "+policy.ShellQuote(path))
	}
	return b, err
}

// writeResult writes what a command makes to a file, or to standard output.
func writeResult(s *streams, path string, content []byte) error {
	if path == "" {
		_, err := s.out.Write(content)
		return err
	}
	return os.WriteFile(path, content, 0o644)
}
