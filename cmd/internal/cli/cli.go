// Package cli is the command line: the cobra tree, one file per command, and
// everything that a terminal or a script sees. It is one client of the
// module's packages.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/term"
)

// streams is what a command gets from the outside world.
type streams struct {
	in       io.Reader
	out, err io.Writer
	env      map[string]string
	inTTY    bool     // stdin is a terminal
	outTTY   bool     // stdout is a terminal
	errTTY   bool     // stderr is a terminal
	outSize  termSize // of the terminal at stdout; nil for 80 columns
	errSize  termSize // of the terminal at stderr; nil for 80 columns
	color    string   // of --color
	quiet    bool     // no progress unless it is asked for
}

// Main runs the command line args (args[0] is the program) and gives the exit
// code. environ has the form of os.Environ.
func Main(args, environ []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { endAtSecond(stop) })
	vars := variables(environ)
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	followHost(ctx, vars, gone)
	s := &streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		env:    vars,
		inTTY:  term.IsTerminal(int(os.Stdin.Fd())),
		outTTY: isTerminal(os.Stdout), outSize: sizeOf(os.Stdout),
		errTTY: isTerminal(os.Stderr), errSize: sizeOf(os.Stderr),
	}
	return run(ctx, args, s)
}

// endAtSecond lets a second signal end the program at once. A terminal whose
// cursor is hidden gets it back first.
func endAtSecond(stop func()) {
	if !isTerminal(os.Stderr) {
		stop()
		return
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	stop()
	<-again
	fmt.Fprint(os.Stderr, showCursor)
	os.Exit(exitInterrupted)
}

// run executes one command line and reports its error, if it ends in one.
func run(ctx context.Context, args []string, s *streams) int {
	h := detectHost(args, s.getenv)
	if h.metadata {
		return report(s, printMetadata(s), h.name)
	}
	if h.debug {
		fmt.Fprintf(s.err, "debug: %s %s, called as %s\n", program, buildVersion(), h.name)
	}
	out := &sink{Writer: s.out}
	s.out = out
	root := newRoot(s, h)
	root.SetArgs(h.args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = fail(exitInterrupted, errors.New("interrupted"))
	}
	if err == nil {
		err = out.failed()
	}
	return report(s, err, cmd.CommandPath())
}

// sink remembers the first write that failed: output that nobody got, because a
// disk is full, is no success.
type sink struct {
	io.Writer
	mu  sync.Mutex
	err error
}

func (w *sink) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.err == nil {
			w.err = err
		}
	}
	return n, err
}

func (w *sink) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// isTerminal says whether a stream is a terminal that shows colours and moves
// its cursor when it is told to.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) && understandsEscapes(f) }

func sizeOf(f *os.File) termSize {
	return func() (columns, rows int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0, 0
		}
		return columns, rows
	}
}

// variables reads the form of os.Environ; the last of several values counts.
func variables(environ []string) map[string]string {
	vars := make(map[string]string, len(environ))
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			vars[k] = v
		}
	}
	return vars
}

func (s *streams) getenv(key string) string { return s.env[key] }

func (s *streams) has(key string) bool {
	_, ok := s.env[key]
	return ok
}
