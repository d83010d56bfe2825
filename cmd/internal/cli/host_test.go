package cli

import (
	"slices"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestDetectHost(t *testing.T) {
	t.Parallel()
	helm := map[string]string{"HELM_PLUGIN_NAME": "weightseal"}
	for _, tt := range []struct {
		name string
		args []string
		env  map[string]string
		want host
	}{
		{"alone", []string{"/usr/bin/weightseal", "scan", "x"}, nil, host{name: "weightseal", args: []string{"scan", "x"}}},
		{"docker metadata", []string{"docker-weightseal", "docker-cli-plugin-metadata"}, nil, host{metadata: true}},
		{"docker", []string{"/plugins/docker-weightseal", "weightseal", "pull", "r", "d"}, nil, host{name: "docker weightseal", args: []string{"pull", "r", "d"}}},
		{"docker on windows", []string{"docker-weightseal.exe", "weightseal", "version"}, nil, host{name: "docker weightseal", args: []string{"version"}}},
		{"docker with globals", []string{"docker-weightseal", "--debug", "--context", "c", "-l", "debug", "weightseal", "version"}, nil, host{name: "docker weightseal", args: []string{"version"}}},
		{"docker global with our name as its value", []string{"docker-weightseal", "--context", "weightseal", "weightseal", "scan", "weightseal"}, nil, host{name: "docker weightseal", args: []string{"scan", "weightseal"}}},
		{"docker completion", []string{"docker-weightseal", "__complete", "weightseal", "pu"}, nil, host{name: "docker weightseal", args: []string{"__complete", "pu"}}},
		{"docker help", []string{"docker-weightseal", "weightseal", "--help"}, nil, host{name: "docker weightseal", args: []string{"--help"}}},
		{"kubectl", []string{"kubectl-weightseal", "verify", "r"}, nil, host{name: "kubectl weightseal", args: []string{"verify", "r"}}},
		{"kubectl completion", []string{"/bin/kubectl_complete-weightseal", "verify", ""}, nil, host{name: "kubectl weightseal", args: []string{"__complete", "verify", ""}}},
		{"helm's downloader", []string{"/plugins/weightseal/bin/weightseal", "helm-download", "u"}, map[string]string{"HELM_PLUGIN_NAME": "weightseal-getter"}, host{name: "helm weightseal", args: []string{"helm-download", "u"}}},
		{"helm with --debug", []string{"weightseal", "push"}, map[string]string{"HELM_PLUGIN_NAME": "weightseal", "HELM_DEBUG": "true"}, host{name: "helm weightseal", args: []string{"push"}, debug: true}},
		{"helm", []string{"/plugins/weightseal/bin/weightseal", "push"}, helm, host{name: "helm weightseal", args: []string{"push"}}},
		{"docker under helm", []string{"docker-weightseal", "weightseal", "push"}, helm, host{name: "docker weightseal", args: []string{"push"}}},
		{"another helm plugin calls us", []string{"weightseal", "push"}, map[string]string{"HELM_PLUGIN_NAME": "other"}, host{name: "weightseal", args: []string{"push"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := detectHost(tt.args, func(k string) string { return tt.env[k] })
			if got.name != tt.want.name || got.metadata != tt.want.metadata || got.debug != tt.want.debug || !slices.Equal(got.args, tt.want.args) {
				t.Errorf("detectHost(%q) = %+v, want %+v", tt.args, got, tt.want)
			}
		})
	}
}

// TestNoFlagOfHelms: Helm takes -n, --namespace and --debug for itself, also
// behind the plugin's name, so they never reach us.
func TestNoFlagOfHelms(t *testing.T) {
	t.Parallel()
	var walk func(*cobra.Command)
	seen := 0
	walk = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		check := func(f *pflag.Flag) {
			seen++
			if f.Name == "debug" || f.Shorthand == "n" {
				t.Errorf("%s has --%s (-%s), which Helm swallows", cmd.CommandPath(), f.Name, f.Shorthand)
			}
		}
		cmd.LocalFlags().VisitAll(check)
		cmd.PersistentFlags().VisitAll(check)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&streams{}, host{name: program}))
	if seen < 50 {
		t.Errorf("only %d flags were looked at", seen)
	}
}
