package oci

import (
	"context"
	"io"
	"net"
	"time"
)

// dialContext dials as http.DefaultTransport does. Connections know how to
// take an upload in whole chunks: the standard copy goes through 32 KiB.
func dialContext() func(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, addr)
		if tcp, ok := c.(*net.TCPConn); ok && err == nil {
			return chunkConn{tcp}, nil
		}
		return c, err
	}
}

// chunkConn is a TCP connection that reads a chunkBody without copying. Under
// TLS it is a plain connection.
type chunkConn struct{ *net.TCPConn }

// ReadFrom is what net/http calls to send a body over an unencrypted
// connection.
func (c chunkConn) ReadFrom(r io.Reader) (int64, error) {
	if lim, ok := r.(*io.LimitedReader); ok {
		if body, ok := lim.R.(*chunkBody); ok {
			n, err := body.writeTo(c.TCPConn, lim.N)
			lim.N -= n
			return n, err
		}
	}
	return c.TCPConn.ReadFrom(r)
}
