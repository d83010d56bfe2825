package cli

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/internal/helmplugin"
)

const modulePath = "github.com/weightseal/weightseal"

// pluginHosts are the programs that weightseal can be a plugin of.
func pluginHosts() []string { return []string{"docker", "helm", "kubectl"} }

type pluginOptions struct {
	dryRun, copy, getterOnly bool
	dir                      string
}

func newPlugin(s *streams, h host) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Make weightseal a plugin of docker, Helm or kubectl",
		Long: `Install weightseal as a plugin of another program, or take it away again. Nothing is
fetched: the plugin is this program. Only files of weightseal are ever replaced or removed.`,
		Args: rootArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, c := range []struct {
		verb, short string
		run         func(*streams, string, *pluginOptions) error
	}{
		{"install", "Install weightseal as a plugin of docker, Helm or kubectl", installPlugin},
		{"uninstall", "Take the plugin away again", uninstallPlugin},
	} {
		cmd.AddCommand(newPluginVerb(s, h, c.verb, c.short, c.run))
	}
	return cmd
}

func newPluginVerb(s *streams, h host, verb, short string, run func(*streams, string, *pluginOptions) error) *cobra.Command {
	var o pluginOptions
	sub := &cobra.Command{
		Use:                   verb + " docker|helm|kubectl",
		Short:                 short,
		DisableFlagsInUseLine: true,
		Example:               fmt.Sprintf("  %[1]s plugin %[2]s docker\n  %[1]s plugin %[2]s helm --dry-run", h.name, verb),
		Args:                  exactArgs("HOST"),
		ValidArgs:             pluginHosts(),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkPluginHost(args[0], &o); err != nil {
				return err
			}
			return run(s, args[0], &o)
		},
	}
	f := sub.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and do nothing")
	f.StringVar(&o.dir, "dir", "", "`folder` for plugins (default: where the host looks for them; for kubectl ~/.local/bin)")
	f.BoolVar(&o.getterOnly, "getter-only", false, "only Helm's downloader")
	_ = f.MarkHidden("getter-only")
	if verb == "install" {
		f.BoolVar(&o.copy, "copy", runtime.GOOS == "windows", "copy the program instead of linking to it")
	}
	return sub
}

func checkPluginHost(name string, o *pluginOptions) error {
	if !slices.Contains(pluginHosts(), name) {
		return usage("weightseal plugin install "+cmp.Or(nearest(name, pluginHosts()), pluginHosts()[0]), "%q: want one of %s", name, strings.Join(pluginHosts(), ", "))
	}
	if o.getterOnly && name != "helm" {
		return usage("weightseal plugin install helm --getter-only", "--getter-only is for helm")
	}
	return nil
}

// pluginFile is a file of an installed plugin.
type pluginFile struct {
	path    string
	program bool   // it is weightseal itself
	content []byte // of what is not
	mode    fs.FileMode
}

// pluginFiles lists what a plugin of a host consists of, and the folders that
// are its own.
func pluginFiles(s *streams, hostName string, o *pluginOptions) (files []pluginFile, folders []string, err error) {
	dir, err := pluginDir(s, hostName, o.dir)
	if err != nil {
		return nil, nil, err
	}
	exe := func(name string) pluginFile {
		if runtime.GOOS == "windows" {
			name += ".exe"
		}
		return pluginFile{path: filepath.Join(dir, name), program: true}
	}
	switch hostName {
	case "docker":
		return []pluginFile{exe("docker-" + program)}, nil, nil
	case "kubectl":
		return []pluginFile{exe("kubectl-" + program), exe("kubectl_complete-" + program)}, nil, nil
	}
	add := func(name string, list []helmplugin.File) {
		for _, f := range list {
			p := pluginFile{path: filepath.Join(dir, name, filepath.FromSlash(f.Path)), content: f.Content, mode: 0o644}
			if f.Program {
				p.mode = 0o755
			}
			files = append(files, p)
		}
	}
	if !o.getterOnly {
		files = append(files, exe(filepath.Join(helmplugin.Name, "bin", program)))
		add(helmplugin.Name, helmplugin.Files(pluginVersion()))
		own := filepath.Join(dir, helmplugin.Name)
		folders = append(folders, filepath.Join(own, "bin"), filepath.Join(own, "tools"), own)
	}
	add(helmplugin.Getter, helmplugin.GetterFiles(pluginVersion()))
	return files, append(folders, filepath.Join(dir, helmplugin.Getter)), nil
}

var releasedVersion = regexp.MustCompile(`^v(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)$`)

// pluginVersion is the version for a manifest; empty for a build that has none.
func pluginVersion() string {
	if m := releasedVersion.FindStringSubmatch(buildVersion()); len(m) > 1 && !strings.HasPrefix(m[1], "0.0.0") {
		return m[1]
	}
	return ""
}

// pluginDir is where a host looks for its plugins: docker/cli
// cli/config/config.go, helm pkg/helmpath.
func pluginDir(s *streams, hostName, dir string) (string, error) {
	if dir != "" {
		return filepath.Abs(dir)
	}
	home := s.getenv("HOME")
	if runtime.GOOS == "windows" {
		home = s.getenv("USERPROFILE")
	}
	first := func(fallback string, tries ...[2]string) (string, error) {
		for _, try := range tries {
			if base := s.getenv(try[0]); base != "" {
				return filepath.Abs(filepath.Join(base, try[1]))
			}
		}
		if home == "" {
			return "", usage("say where: --dir FOLDER", "there is no home folder")
		}
		return filepath.Join(home, filepath.FromSlash(fallback)), nil
	}
	switch hostName {
	case "docker":
		return first(".docker/cli-plugins", [2]string{"DOCKER_CONFIG", "cli-plugins"})
	case "kubectl":
		return first(".local/bin")
	}
	if list := filepath.SplitList(s.getenv("HELM_PLUGINS")); len(list) > 0 {
		return filepath.Abs(list[0])
	}
	tries := [][2]string{{"HELM_DATA_HOME", "plugins"}, {"XDG_DATA_HOME", "helm/plugins"}}
	switch runtime.GOOS {
	case "darwin":
		return first("Library/helm/plugins", tries...)
	case "windows":
		return first("AppData/Roaming/helm/plugins", append(tries, [2]string{"APPDATA", "helm/plugins"})...)
	}
	return first(".local/share/helm/plugins", tries...)
}

func installPlugin(s *streams, hostName string, o *pluginOptions) error {
	files, folders, err := pluginFiles(s, hostName, o)
	if err != nil {
		return err
	}
	self, err := ownProgram()
	if err != nil {
		return err
	}
	if err := checkOurs(files, folders); err != nil {
		return err
	}
	for _, f := range files {
		done, err := f.install(self, o)
		if err != nil {
			return err
		}
		would := ""
		if o.dryRun {
			would = "would have "
		}
		if _, err := fmt.Fprintf(s.out, "%s%s %s\n", would, done, f.path); err != nil {
			return err
		}
	}
	if hostName == "kubectl" && !onPath(s, filepath.Dir(files[0].path)) {
		fmt.Fprintf(s.err, "warning: %s is not on the PATH, so kubectl does not see it\n", filepath.Dir(files[0].path))
		fmt.Fprintf(s.err, "hint: export PATH=\"%s:$PATH\"\n", filepath.Dir(files[0].path))
	}
	if !o.getterOnly {
		fmt.Fprintf(s.err, "try it: %s %s version\n", hostName, program)
	}
	return nil
}

// install puts the file there, unless it is there already, and says which.
func (f *pluginFile) install(self string, o *pluginOptions) (done string, err error) {
	switch {
	case !f.program:
		if old, err := os.ReadFile(f.path); err == nil && bytes.Equal(old, f.content) {
			return "kept", nil
		}
		done = "written"
	case o.copy:
		done = "copied to"
	default:
		if target, err := os.Readlink(f.path); err == nil && target == self {
			return "kept", nil
		}
		done = "linked"
	}
	if f.program && o.copy && sameFile(f.path, self) {
		if info, err := os.Lstat(f.path); err == nil && info.Mode().IsRegular() {
			return "kept", nil // it is the program that runs
		}
	}
	if o.dryRun {
		return done, nil
	}
	return done, f.replace(self, o.copy)
}

// replace writes beside the file and renames: a program that runs keeps its
// own, and nobody sees half of one.
func (f *pluginFile) replace(self string, copied bool) error {
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	staging, err := os.MkdirTemp(dir, "."+program+"-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staging)
	fresh := filepath.Join(staging, filepath.Base(f.path))
	switch {
	case !f.program:
		err = os.WriteFile(fresh, f.content, f.mode)
	case copied:
		err = copyProgram(self, fresh)
	default:
		err = os.Symlink(self, fresh)
	}
	if err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // a program that runs can be moved, not replaced
		_ = os.Rename(f.path, filepath.Join(staging, "old"))
	}
	return os.Rename(fresh, f.path)
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func uninstallPlugin(s *streams, hostName string, o *pluginOptions) error {
	files, folders, err := pluginFiles(s, hostName, o)
	if err != nil {
		return err
	}
	if err := checkOurs(files, folders); err != nil {
		return err
	}
	removed := 0
	for _, f := range files {
		if _, err := os.Lstat(f.path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		would := "would have "
		if !o.dryRun {
			would = ""
			if err := os.Remove(f.path); err != nil {
				return err
			}
		}
		removed++
		if _, err := fmt.Fprintf(s.out, "%sremoved %s\n", would, f.path); err != nil {
			return err
		}
	}
	if removed == 0 {
		fmt.Fprintf(s.err, "%s has no plugin of ours in %s\n", hostName, filepath.Dir(files[len(files)-1].path))
	}
	if o.dryRun {
		return nil
	}
	for _, dir := range folders { // a folder that holds something else stays
		if entries, err := os.ReadDir(dir); err == nil && len(entries) == 0 {
			if err := os.Remove(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkOurs refuses to touch what is not weightseal's.
func checkOurs(files []pluginFile, folders []string) error {
	for _, dir := range folders {
		if info, err := os.Lstat(dir); err == nil && !info.IsDir() {
			return fail(exitError, fmt.Errorf("%s is a link, which Helm made for a plugin in another folder", dir),
				"helm plugin uninstall "+filepath.Base(dir))
		}
	}
	for _, f := range files {
		if _, err := os.Lstat(f.path); err == nil && !f.ours() {
			return fail(exitError, fmt.Errorf("%s is there and is not weightseal's; it is left as it is", f.path),
				"look at it, and move it away if it is not needed")
		}
	}
	return nil
}

var manifestName = regexp.MustCompile(`(?m)^name: *` + program + `(-getter)?\s*$`)

// ours says whether what is at the path is of weightseal: a program built from
// this module, a link to one or to nothing that has its name, a text of ours.
func (f *pluginFile) ours() bool {
	if f.program {
		if info, err := buildinfo.ReadFile(f.path); err == nil {
			return info.Main.Path == modulePath
		}
		target, err := os.Readlink(f.path)
		if err != nil {
			return false
		}
		_, err = os.Stat(f.path)
		return errors.Is(err, fs.ErrNotExist) && strings.TrimSuffix(filepath.Base(target), ".exe") == program
	}
	info, err := os.Lstat(f.path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
		return false
	}
	old, err := os.ReadFile(f.path)
	if err != nil {
		return false
	}
	if filepath.Base(f.path) == "plugin.yaml" {
		return manifestName.Match(old)
	}
	return strings.Contains(string(old), program)
}

// ownProgram is the path of the program that runs.
func ownProgram() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(self)
}

func onPath(s *streams, dir string) bool {
	return slices.ContainsFunc(filepath.SplitList(s.getenv("PATH")), func(p string) bool {
		return p != "" && filepath.Clean(p) == dir
	})
}
