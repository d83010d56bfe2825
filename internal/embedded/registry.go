// Package embedded runs an OCI registry inside this process, on loopback: for
// the demo, and for tests that need a registry at once.
package embedded

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Registry is a running registry. Its content is in memory.
type Registry struct {
	Addr   string // host:port
	server *http.Server
}

// Start runs a registry on a free port of 127.0.0.1. referrers says whether it
// has the referrers API.
func Start(ctx context.Context, referrers bool) (*Registry, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	quiet := log.New(io.Discard, "", 0)
	handler := registry.New(registry.WithReferrersSupport(referrers), registry.Logger(quiet))
	r := &Registry{Addr: l.Addr().String(), server: &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: quiet}}
	go func() {
		if err := r.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			quiet.Print(err)
		}
	}()
	return r, nil
}

// Close stops the registry at once.
func (r *Registry) Close() error { return r.server.Close() }
