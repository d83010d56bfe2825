package workload

import (
	"path"
	"slices"
	"strings"
)

// fetchers are programs that fetch a model from a registry, with the
// subcommands that do, and those that name one in other ways.
var fetchers = map[string][]string{
	"weightseal": {"pull", "verify"}, "kubectl-weightseal": {"pull", "verify"}, "docker-weightseal": {"pull", "verify"},
	"oras": {"pull"}, "modctl": {"pull"}, "kit": {"pull", "unpack"}, "crane": {"pull", "export"}, "skopeo": {"copy"},
	"ramalama": {"pull", "run", "serve"}, "docker-model": {"pull", "run"},
	"huggingface-cli": {"download"}, "hf": {"download"}, "ollama": {"pull", "run"},
}

// modelVariable are the names of environment variables that name models.
var modelVariable = pattern(`(^|_)(MODEL(_(ID|NAME|URI|URL|REF|REFERENCE|REPO|SOURCE))?|STORAGE_URI|HF_REPO)$`)

// modelFlags are the options of model servers that name a model.
var modelFlags = map[string]bool{
	"--model": true, "--model-id": true, "--model-name": true, "--model-path": true, "--model_name": true, "--model_id": true,
	"--model-uri": true, "--model-url": true, "--hf-repo": true, "-hf": true, "-hfr": true, "--pretrained": true,
	"--model_name_or_path": true, "--model-repository": true, "--speculative-model": true,
}

// maxScript bounds the shell text that is looked through, in bytes.
const maxScript = 64 << 10

// commandLine looks for models in a command line. certainty is that of a
// program that is known to fetch models.
func (e *extractor) commandLine(what string, argv []word, certainty Certainty) {
	if len(argv) == 0 {
		return
	}
	program := path.Base(argv[0].text)
	if slices.Contains([]string{"sh", "bash", "ash", "dash", "zsh"}, program) {
		e.shell(what, argv[1:])
		return
	}
	args := argv[1:]
	if program == "docker" && len(args) > 0 && (args[0].text == "model" || args[0].text == "weightseal") {
		program, args = "docker-"+args[0].text, args[1:]
	}
	if program == "kubectl" && len(args) > 0 && args[0].text == "weightseal" {
		program, args = "weightseal", args[1:]
	}
	if subcommands, ok := fetchers[program]; ok {
		// The image's own program may be the subcommand's: its name is then
		// followed by the subcommand all the same.
		for i, a := range args {
			if slices.Contains(subcommands, a.text) {
				e.fetched(what, program, args[i+1:], certainty)
				break
			}
		}
		return
	}
	e.served(what, program, args)
}

// fetched finds the first argument that a fetching program can take for a
// model: options and their values are passed over by their looks.
func (e *extractor) fetched(what, program string, args []word, certainty Certainty) {
	for _, a := range args {
		r, ok := fetchedReference(program, a.text)
		if !ok {
			continue
		}
		e.add(Use{Place: a.place, Via: what + ", " + program, Certainty: certainty, Reference: r})
		return
	}
}

func fetchedReference(program, arg string) (Reference, bool) {
	if strings.HasPrefix(arg, "-") || unfit(arg) != "" {
		return Reference{}, false
	}
	switch program {
	case "huggingface-cli", "hf":
		r, ok := guess(arg)
		return r, ok && r.Scheme == "hf"
	case "ollama":
		return Reference{Text: "ollama://" + arg, Scheme: "ollama"}, true
	case "docker-model":
		if strings.HasPrefix(arg, "hf.co/") {
			return Reference{Text: "hf://" + strings.TrimPrefix(arg, "hf.co/"), Scheme: "hf"}, true
		}
		if !strings.Contains(arg, "/") {
			arg = "ai/" + arg // Docker Model Runner's namespace on Docker Hub
		}
		r := ParseImage(arg)
		return r, r.Problem == ""
	case "ramalama":
		r, ok := guess(arg)
		if !ok && schemePattern().MatchString(arg) {
			return ParseURI(arg), true
		}
		return r, ok
	}
	if schemePattern().MatchString(arg) {
		r := ParseURI(arg)
		return r, r.Scheme == OCI
	}
	first, _, ok := strings.Cut(arg, "/")
	if !ok || !hosted(first) {
		return Reference{}, false
	}
	r := ParseImage(arg)
	return r, r.Problem == ""
}

// served finds the options of model servers, and URIs that name a model.
func (e *extractor) served(what, program string, args []word) {
	for i, a := range args {
		flag, value, joined := strings.Cut(a.text, "=")
		at := a.place
		switch {
		case modelFlags[flag] && joined:
		case modelFlags[a.text] && i+1 < len(args):
			flag, value, at = a.text, args[i+1].text, args[i+1].place
		case i == 1 && program == "vllm" && args[0].text == "serve":
			flag, value = "serve", a.text
		case schemePattern().MatchString(a.text):
			if r := ParseURI(a.text); r.Scheme != "hf" && !strings.HasPrefix(a.text, "weightseal+oci://") {
				continue
			}
			flag, value = program, a.text
		default:
			continue
		}
		if r, ok := guess(value); ok {
			e.add(Use{Place: at, Via: what + ", " + flag, Certainty: Mentioned, Reference: r})
		}
	}
}

// shell looks through the text that a shell is given with -c. What runs of it,
// and with which values, is not known: everything found is mentioned.
func (e *extractor) shell(what string, args []word) {
	for i, a := range args {
		if !strings.HasPrefix(a.text, "-") || !strings.HasSuffix(a.text, "c") || i+1 >= len(args) {
			continue
		}
		script := args[i+1]
		if len(script.text) > maxScript {
			script.text = script.text[:maxScript]
		}
		for _, words := range simpleCommands(script.text) {
			argv := make([]word, 0, len(words))
			for _, w := range words {
				argv = append(argv, word{script.place, w})
			}
			e.commandLine(what, argv, Mentioned)
		}
		return
	}
}

var (
	shellEnds  = pattern(`[;|&()\n]+`)
	assignment = pattern(`^[A-Za-z_][A-Za-z0-9_]*=`)
	expansion  = pattern(`\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)`)
)

// simpleCommands takes a shell text apart, as far as that can be done without
// being a shell: quotes are dropped, continued lines joined, and assignments
// and words such as exec before a program left out.
func simpleCommands(script string) [][]string {
	script = strings.ReplaceAll(script, "\\\n", " ")
	var commands [][]string
	for _, part := range shellEnds().Split(script, -1) {
		words := strings.Fields(strings.NewReplacer(`"`, "", `'`, "").Replace(part))
		for len(words) > 0 && (assignment().MatchString(words[0]) || slices.Contains([]string{"exec", "if", "then", "else", "do", "while", "until", "!", "time", "env"}, words[0])) {
			words = words[1:]
		}
		if len(words) > 0 && !slices.Contains([]string{"sh", "bash", "ash", "dash", "zsh"}, path.Base(words[0])) {
			commands = append(commands, words)
		}
	}
	return commands
}

// expand puts the values of variables for $(NAME), as Kubernetes does in
// commands, arguments and later variables. What would become longer than
// maxScript is left as it is.
func expand(s string, env map[string]string) string {
	if !strings.Contains(s, "$(") || len(s) > maxScript {
		return s
	}
	var b strings.Builder
	last := 0
	for _, m := range expansion().FindAllStringSubmatchIndex(s, -1) {
		value := "$"
		if m[2] >= 0 {
			var ok bool
			if value, ok = env[s[m[2]:m[3]]]; !ok {
				continue
			}
		}
		b.WriteString(s[last:m[0]])
		b.WriteString(value)
		last = m[1]
		if b.Len() > maxScript {
			return s
		}
	}
	return b.String() + s[last:]
}
