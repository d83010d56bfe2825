package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/weightseal/weightseal/internal/helmplugin"
)

// host is the program that started us, found from the name we were called by
// and the environment.
type host struct {
	name     string   // how the user calls us: "weightseal", "docker weightseal", ...
	args     []string // the command line without the host's part
	metadata bool     // docker asks for the plugin's metadata
	debug    bool     // the host's own --debug is given
}

const program = "weightseal"

// dockerValueFlags are docker's global flags that take a value (docker/cli,
// cli/flags/options.go); one of them may have our name as its value.
var dockerValueFlags = map[string]bool{
	"--config": true, "-c": true, "--context": true, "-H": true, "--host": true,
	"-l": true, "--log-level": true, "--tlscacert": true, "--tlscert": true, "--tlskey": true,
}

func detectHost(args []string, getenv func(string) string) host {
	rest := args[1:]
	switch base := strings.TrimSuffix(filepath.Base(args[0]), ".exe"); {
	case base == "docker-"+program:
		if len(rest) > 0 && rest[0] == "docker-cli-plugin-metadata" {
			return host{metadata: true}
		}
		return host{name: "docker " + program, args: stripDocker(rest)}
	case base == "kubectl-"+program:
		return host{name: "kubectl " + program, args: rest}
	case base == "kubectl_complete-"+program:
		return host{name: "kubectl " + program, args: append([]string{"__complete"}, rest...)}
	case getenv("HELM_PLUGIN_NAME") == program || getenv("HELM_PLUGIN_NAME") == helmplugin.Getter:
		// Helm keeps --debug for itself, wherever it stands, and says so here.
		return host{name: "helm " + program, args: rest, debug: getenv("HELM_DEBUG") == "true" || getenv("HELM_DEBUG") == "1"}
	}
	return host{name: program, args: rest}
}

// stripDocker removes docker's global flags and our own name: docker calls
// docker-weightseal [GLOBALS] weightseal ARGS..., and for completion
// docker-weightseal __complete weightseal ARGS...
func stripDocker(args []string) []string {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == program:
			return args[i+1:]
		case a == "__complete" || a == "__completeNoDesc":
			if i+1 < len(args) && args[i+1] == program {
				return append([]string{a}, args[i+2:]...)
			}
			return args[i:]
		case dockerValueFlags[a]:
			i++
		case !strings.HasPrefix(a, "-"):
			return args[i:]
		}
	}
	return nil
}

// printMetadata answers docker's docker-cli-plugin-metadata call. Clients
// before 28.4 accept schema version 0.1.0 only.
func printMetadata(s *streams) error {
	enc := json.NewEncoder(s.out)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]string{
		"SchemaVersion":    "0.1.0",
		"Vendor":           "weightseal",
		"Version":          buildVersion(),
		"ShortDescription": short,
		"URL":              "https://github.com/weightseal/weightseal",
	})
}
