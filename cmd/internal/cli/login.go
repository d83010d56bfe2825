package cli

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/oci"
)

func newLogin(s *streams) *cobra.Command {
	var registry registryFlags
	var output string
	cmd := &cobra.Command{
		Use:   "login REGISTRY",
		Short: "Log in to a registry",
		Long: `Check a user name and a password with a registry, and keep them where docker, oras and
crane keep theirs: in config.json of docker's folder (DOCKER_CONFIG, or ~/.docker), or
with the helper program that credHelpers or credsStore name there. Whatever else is in
the file stays. On a terminal, what is not given is asked for.`,
		Example: `  weightseal login registry.example --username me
  weightseal login registry.example -u ci --password-stdin < token`,
		Args: exactArgs("REGISTRY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("output", output, "text", "json"); err != nil {
				return err
			}
			file, err := registry.authFile(s)
			if err != nil {
				return err
			}
			if err := registry.askUser(s, args[0]); err != nil {
				return err
			}
			opt, err := registry.options(s)
			if err != nil {
				return err
			}
			if opt.Password == "" {
				return usage("", "the password is empty")
			}
			if err := oci.CheckLogin(cmd.Context(), args[0], opt); err != nil {
				return refusedLogin(args[0], err)
			}
			account, err := oci.SaveLogin(file, args[0], opt.Username, opt.Password)
			if err != nil {
				return err
			}
			return printLogin(s, output, account)
		},
	}
	f := cmd.Flags()
	registry.addAccess(f)
	f.StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func newLogout(s *streams) *cobra.Command {
	var config, output string
	cmd := &cobra.Command{
		Use:     "logout REGISTRY",
		Short:   "Forget the login to a registry",
		Long:    "Remove the credentials for a registry from where login puts them.",
		Example: "  weightseal logout registry.example",
		Args:    exactArgs("REGISTRY"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf("output", output, "text", "json"); err != nil {
				return err
			}
			file, err := (&registryFlags{config: config}).authFile(s)
			if err != nil {
				return err
			}
			account, err := oci.RemoveLogin(file, args[0])
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(s.out, struct {
					SchemaVersion int    `json:"schemaVersion"`
					Registry      string `json:"registry"`
					Removed       bool   `json:"removed"`
				}{1, args[0], account != nil})
			}
			if account == nil {
				fmt.Fprintf(s.out, "%s: there was no login in %s\n", printable(args[0]), printable(file))
				return nil
			}
			fmt.Fprintf(s.out, "%s: logged out (%s)\n", account.Registry, printable(account.Place))
			return nil
		},
	}
	addRegistryConfig(cmd.Flags(), &config)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// authFile is the file that logins are kept in.
func (r *registryFlags) authFile(s *streams) (string, error) {
	switch {
	case r.config != "":
		return r.config, nil
	case s.getenv("DOCKER_CONFIG") != "":
		return filepath.Join(s.getenv("DOCKER_CONFIG"), "config.json"), nil
	}
	for _, home := range []string{"HOME", "USERPROFILE"} {
		if dir := s.getenv(home); dir != "" {
			return filepath.Join(dir, ".docker", "config.json"), nil
		}
	}
	return "", fail(exitUsage, errors.New("no home folder to keep the login in"), "name the file: --registry-config FILE")
}

// askUser asks for the user's name where none is given.
func (r *registryFlags) askUser(s *streams, registry string) error {
	if r.username != "" {
		return nil
	}
	if !s.inTTY || r.passwordStdin {
		return usage("weightseal login "+registry+" --username NAME --password-stdin", "who logs in? --username is missing")
	}
	fmt.Fprintf(s.err, "user name at %s: ", printable(registry))
	name, err := readTerminalLine(s.in)
	if err != nil || name == "" {
		return usage("", "no user name")
	}
	r.username = name
	return nil
}

// refusedLogin says of which registry the credentials are refused.
func refusedLogin(registry string, err error) error {
	if errors.Is(err, oci.ErrUnauthorized) || errors.Is(err, oci.ErrDenied) {
		return fail(exitNetwork, fmt.Errorf("%s does not take this user name and password: %w", registry, err),
			"some registries want a token in place of the password")
	}
	return err
}

func printLogin(s *streams, output string, a *oci.Account) error {
	if output == "json" {
		return printJSON(s.out, struct {
			SchemaVersion int    `json:"schemaVersion"`
			Registry      string `json:"registry"`
			Username      string `json:"username"`
			Place         string `json:"place"`
			Encrypted     bool   `json:"encrypted"`
		}{1, a.Registry, a.Username, a.Place, !a.Plain})
	}
	fmt.Fprintf(s.out, "%s: logged in as %s (%s)\n", a.Registry, printable(a.Username), printable(a.Place))
	if a.Plain {
		fmt.Fprintln(s.err, "warning: the password is in this file as it is; with a credential helper (credsStore) it would not be")
	}
	return nil
}
