// Command release makes a release of weightseal from a checkout: archives for
// all platforms, the Helm plugin, krew's manifest, checksums, a bill of
// materials, and with a key their signature and provenance; or, as
// `release image`, the container image; or, as `release plugin`, the Helm plugin
// of a release in a registry. `make release`, `make image` and `make plugin` run it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/weightseal/weightseal/attest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1) //nolint:gocritic // the signals need no more handling
	}
}

// options are the flags; the environment gives the defaults that a Makefile or
// a pipeline sets.
type options struct {
	version, out, key, platforms, url, push, gpgKey string
	unsigned, plainHTTP                             bool
	what                                            string // image, plugin, or nothing for the release
}

func run(ctx context.Context, args []string) error {
	var o options
	if len(args) > 0 && (args[0] == "image" || args[0] == "plugin") {
		o.what, args = args[0], args[1:]
	}
	f := flag.NewFlagSet("release", flag.ContinueOnError)
	f.StringVar(&o.version, "version", "", "version of the release, such as v1.2.3")
	f.StringVar(&o.out, "out", "", "folder to write (default dist, dist/image)")
	f.StringVar(&o.platforms, "platforms", "", "only these, such as linux/amd64,darwin/arm64")
	f.StringVar(&o.key, "key", "", "private key to sign with (COSIGN_PASSWORD opens it)")
	f.BoolVar(&o.unsigned, "unsigned", os.Getenv("ALLOW_UNSIGNED") == "1", "make a release without a signature (ALLOW_UNSIGNED=1)")
	f.StringVar(&o.url, "url", os.Getenv("WEIGHTSEAL_RELEASE_URL"), "where the release will be fetched from (WEIGHTSEAL_RELEASE_URL)")
	f.StringVar(&o.push, "push", "", "image, plugin: push it to this reference")
	f.StringVar(&o.gpgKey, "gpg-key", "", "plugin: sign it with this key of gpg, for helm's --verify")
	f.BoolVar(&o.plainHTTP, "plain-http", false, "image, plugin: the registry has no TLS")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.out == "" {
		o.out = "dist"
		if o.what == "image" {
			o.out = "dist/image"
		}
	}
	r, err := newRelease(".", o.out, o.version)
	if err != nil {
		return err
	}
	if o.url != "" {
		r.url = o.url
	}
	r.log = os.Stderr
	if r.date, err = r.sourceDate(ctx); err != nil {
		return err
	}
	switch o.what {
	case "image":
		return r.image(ctx, o.platforms, o.push, o.plainHTTP)
	case "plugin":
		return r.shipPlugin(ctx, o.gpgKey, o.push, o.plainHTTP)
	}
	if r.platforms, err = parsePlatforms(o.platforms); err != nil {
		return err
	}
	signer, err := loadSigner(o.key, o.unsigned)
	if err != nil {
		return err
	}
	return r.make(ctx, signer)
}

// loadSigner wants a key, or the word that none is meant.
func loadSigner(key string, unsigned bool) (attest.Signer, error) {
	switch {
	case key == "" && unsigned:
		return nil, nil
	case key == "":
		return nil, errors.New("a release is signed: name the key (KEY=cosign.key), or say that it is not (ALLOW_UNSIGNED=1)")
	}
	return attest.LoadSigner(key, func() ([]byte, error) {
		password, ok := os.LookupEnv("COSIGN_PASSWORD")
		if !ok {
			return nil, errors.New("set COSIGN_PASSWORD")
		}
		return []byte(password), nil
	})
}

// sourceDate is the time that everything in the release has
// (https://reproducible-builds.org/specs/source-date-epoch/): that of the
// commit; without a checkout the first that a zip can say.
func (r *release) sourceDate(ctx context.Context) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		text = r.git(ctx, "log", "-1", "--format=%ct")
	}
	if text == "" {
		return time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<33 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
