// Command weightseal ships models through OCI registries as safetensors, with
// the proof.
package main

import (
	"os"

	"github.com/weightseal/weightseal/cmd/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args, os.Environ())) }
