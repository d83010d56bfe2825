package cli

import (
	"context"
	"net"
	"os"
	"time"
)

// followHost calls gone when the program that started us has ended, or wants
// us to.
//
// docker passes no signal on: since 25 it names a socket in
// DOCKER_CLI_PLUGIN_SOCKET, and closes it when it is to stop (docker/cli,
// cli-plugins/socket); before that it ends at the third signal. Helm ends by
// itself. Both then leave the plugin running, which is seen from its parent.
// kubectl is replaced by the plugin and needs nothing.
func followHost(ctx context.Context, vars map[string]string, gone func()) {
	if addr := vars["DOCKER_CLI_PLUGIN_SOCKET"]; addr != "" {
		followSocket(ctx, addr, gone)
	}
	if vars["HELM_PLUGIN_NAME"] != "" || vars["DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"] != "" {
		go followParent(ctx, os.Getppid(), os.Getppid, 100*time.Millisecond, gone)
	}
}

// followSocket calls gone when the other side closes the socket. A socket that
// cannot be reached is passed over: an inherited variable may outlive docker.
func followSocket(ctx context.Context, addr string, gone func()) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", addr)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	go func() {
		defer stop()
		for b := make([]byte, 1); ; {
			if _, err := conn.Read(b); err != nil {
				gone()
				return
			}
		}
	}()
}

// followParent calls gone when the parent is another than first: who lost its
// parent is given to another one.
func followParent(ctx context.Context, first int, parent func() int, every time.Duration, gone func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if parent() != first {
				gone()
				return
			}
		}
	}
}
