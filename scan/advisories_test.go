package scan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

// advisory is a published attack and a harmless file that goes the same way.
type advisory struct {
	id string
	// gadgets are globals, as module and name with a blank between them. Each
	// is called without arguments, in a pickle of its own.
	gadgets []string
	// in is a whole file, where the way is the attack and not the name.
	in string
	// file is what it is called.
	file string
}

// called is a pickle that calls a global without arguments.
func called(gadget string) string {
	module, name, _ := strings.Cut(gadget, " ")
	return "\x80\x04" + named(module, name) + ")R."
}

// torchAdvisories are about names of torch and numpy.
func torchAdvisories() []advisory {
	return []advisory{
		{id: "GHSA-4r9r-ch6f-vxmx", gadgets: []string{"torch.utils.bottleneck.__main__ run_cprofile"}},
		{id: "GHSA-4whj-rm5r-c2v8", gadgets: []string{"torch.utils.bottleneck.__main__ run_autograd_prof"}},
		{id: "GHSA-86cj-95qr-2p4f", gadgets: []string{"torch._dynamo.guards GuardBuilder.get"}},
		{id: "GHSA-f4x7-rfwp-v3xw", gadgets: []string{"torch.fx.experimental.symbolic_shapes ShapeEnv.evaluate_guards_expression"}},
		{id: "GHSA-f745-w6jp-hpxx", gadgets: []string{"torch.utils.collect_env run"}},
		{id: "GHSA-jhph-76pp-mggw", gadgets: []string{"torch.utils.collect_env run_and_read_all"}},
		{id: "GHSA-h3qp-7fh3-f8h4", gadgets: []string{"torch.utils.data.datapipes.utils.decoder basichandlers"}},
		{id: "GHSA-vr7h-p6mm-wpmh", gadgets: []string{"torch.jit.unsupported_tensor_ops execWrapper"}},
		{id: "GHSA-vv6j-3g6g-2pvj", gadgets: []string{"torch.utils._config_module ConfigModule.load_config"}},
		{id: "GHSA-r8g5-cgf2-4m4m", gadgets: []string{"numpy.f2py.crackfortran getlincoef"}},
	}
}

// libraryAdvisories are about names of the standard library.
func libraryAdvisories() []advisory {
	return []advisory{
		{id: "GHSA-5qwp-399c-mjwf", gadgets: []string{"trace Trace.run"}},
		{id: "GHSA-g344-hcph-8vgg", gadgets: []string{"trace Trace.runctx"}},
		{id: "GHSA-x696-vm39-cp64", gadgets: []string{"profile Profile.run"}},
		{id: "GHSA-6vqj-c2q5-j97w", gadgets: []string{"profile Profile.runctx"}},
		{id: "GHSA-7wx9-6375-f5wh", gadgets: []string{"profile run"}},
		{id: "GHSA-49gj-c84q-6qm9", gadgets: []string{"cProfile run"}},
		{id: "GHSA-9w88-8rmg-7g2p", gadgets: []string{"cProfile runctx"}},
		{id: "GHSA-f54q-57x4-jg88", gadgets: []string{"lib2to3.pgen2.grammar Grammar.loads"}},
		{id: "GHSA-p9w7-82w4-7q8m", gadgets: []string{"lib2to3.pgen2.pgen ParserGenerator.make_label"}},
		{id: "GHSA-3vg9-h568-4w9m", gadgets: []string{"idlelib.debugobj ObjectTreeItem.SetText"}},
		{id: "GHSA-6w4w-5w54-rjvr", gadgets: []string{"idlelib.autocomplete AutoComplete.get_entity"}},
		{id: "GHSA-7cq8-mj8x-j263", gadgets: []string{"idlelib.autocomplete AutoComplete.fetch_completions"}},
		{id: "GHSA-8r4j-24qv-fmq9", gadgets: []string{"idlelib.calltip Calltip.fetch_tip"}},
		{id: "GHSA-9xph-j2h6-g47v", gadgets: []string{"idlelib.calltip get_entity"}},
		{id: "GHSA-m869-42cg-3xwr", gadgets: []string{"idlelib.run Executive.runcode"}},
		{id: "GHSA-j343-8v2j-ff7w", gadgets: []string{"idlelib.pyshell ModifiedInterpreter.runcommand"}},
		{id: "GHSA-3gf5-cxq9-w223", gadgets: []string{"idlelib.pyshell ModifiedInterpreter.runcode"}},
		{id: "GHSA-cj3c-v495-4xqh", gadgets: []string{"code InteractiveInterpreter.runcode"}},
		{id: "GHSA-fqq6-7vqf-w3fg", gadgets: []string{"doctest debug_script"}},
		{id: "GHSA-xp4f-hrf8-rxw7", gadgets: []string{"ensurepip _run_pip"}},
		{id: "GHSA-q77w-mwjj-7mqx", gadgets: []string{"asyncio.unix_events _UnixSubprocessTransport._start"}},
		{id: "GHSA-f7qq-56ww-84cr", gadgets: []string{"asyncio.unix_events _UnixSubprocessTransport"}},
		{id: "GHSA-m273-6v24-x4m4", gadgets: []string{"distutils.file_util write_file"}},
		{id: "GHSA-4675-36f9-wf6r", gadgets: []string{"ctypes CDLL"}},
		{id: "GHSA-84r2-jw7c-4r5q", gadgets: []string{"operator methodcaller", "pydoc locate"}},
		{id: "GHSA-vqmv-47xg-9wpr", gadgets: []string{"pty spawn"}},
		{id: "GHSA-hgrh-qx5j-jfwx", gadgets: []string{"pty spawn"}},
		{id: "GHSA-955r-x9j8-7rhh", gadgets: []string{"_operator methodcaller", "builtins __import__"}},
		{id: "GHSA-46h3-79wf-xr6c", gadgets: []string{"_operator attrgetter", "builtins __import__"}},
		{id: "GHSA-vvpj-8cmc-gx39", gadgets: []string{"pkgutil resolve_name"}},
		{id: "GHSA-g38g-8gr9-h9xp", gadgets: []string{
			"uuid _get_command_stdout", "_osx_support _read_output", "_aix_support _read_cmd_output",
			"imaplib IMAP4_stream", "_pyrepl.pager pipe_pager", "test.support.script_helper assert_python_ok",
		}},
		{id: "GHSA-9726-w42j-3qjr", gadgets: []string{"_io FileIO", "urllib.request urlopen"}},
		{id: "GHSA-m7j5-r2p5-c39r", gadgets: []string{"logging FileHandler"}},
		{id: "GHSA-9m3x-qqw2-h32h", gadgets: []string{"cloudpickle.cloudpickle _make_function", "types CodeType"}},
		{id: "GHSA-655q-fx9r-782v", gadgets: []string{"pip main"}},

		{id: "GHSA-r7v6-mfhq-g3m2", gadgets: []string{"pty spawn"}},
		{id: "GHSA-565g-hwwr-4pp3", gadgets: []string{"marshal loads", "types FunctionType"}},
		{id: "GHSA-wfq2-52f7-7qvj", gadgets: []string{"runpy run_path"}},
		{id: "GHSA-q5qq-mvfm-j35x", gadgets: []string{
			"runpy run_path", "importlib import_module", "code InteractiveInterpreter", "multiprocessing.util spawnv_passfds",
		}},
		{id: "GHSA-p523-jq9w-64x9", gadgets: []string{"cProfile run"}},
		{id: "GHSA-5hvc-6wx8-mvv4", gadgets: []string{"ctypes CDLL", "pydoc locate"}},
		{id: "GHSA-h4rm-mm56-xf63", gadgets: []string{"builtins __import__"}},
		{id: "GHSA-5hwf-rc88-82xm", gadgets: []string{
			"uuid _get_command_stdout", "_aix_support _read_cmd_output", "_osx_support _find_build_tool",
		}},
		{id: "GHSA-5j3x-jp52-966f", gadgets: []string{"pathlib os.system"}},
		{id: "GHSA-cffv-grgg-g429", gadgets: []string{"ast parse"}},
		{id: "GHSA-6ggj-6f2q-f7mx", gadgets: []string{"_interpreters create", "_xxsubinterpreters create"}},
		{id: "GHSA-pc6j-px3p-rrj4", gadgets: []string{"doctest debug_script", "test.support.script_helper assert_python_ok", "unittest.mock _importer"}},
		{id: "GHSA-m6fh-58r7-x697", gadgets: []string{"_posixsubprocess fork_exec", "site addsitedir", "atexit register"}},
		{id: "GHSA-r48f-3986-4f9c", gadgets: []string{"linecache getlines", "difflib get_close_matches", "gc get_objects"}},
		{id: "GHSA-5cxw-w2xg-2m8h", gadgets: []string{"platform _syscmd_file"}},
	}
}

// wayAdvisories are about how a file is written.
func wayAdvisories() []advisory {
	const (
		p2    = "\x80\x02"
		plain = p2 + "}."
	)
	attack := p2 + global("posix", "system") + ")R."
	inTorch := func(p zipPart) string {
		p.name, p.data = "archive/data.pkl", plain
		return rawZip(p, zipPart{name: "archive/version", data: "3\n"})
	}
	inZip := func(p zipPart) string {
		p.name, p.data = "data.pkl", plain
		return rawZip(p)
	}
	return []advisory{
		// A name that is a text of protocol 0.
		{id: "GHSA-9gvj-pp9x-gcfr", in: "S'posix'\nS'system'\n\x93)R."},
		// The legacy layout with a magic number that is the result of a call.
		{id: "GHSA-97f8-7cmv-76j2", file: "model.pt", in: p2 + global("builtins", "eval") + text("0x1950A86A20F9469CFC6C") + "\x85R." +
			p2 + "M\xe9\x03." + p2 + "}." + p2 + "]." + attack},
		// A call whose result is thrown away.
		{id: "GHSA-mxhj-88fx-4pcv", in: "\x80\x04(" + named("smtplib", "SMTP") + short("127.0.0.1") + "o0N."},
		// A state on what a harmless looking call made.
		{id: "GHSA-mhc9-48gj-9gp3", in: p2 + global("io", "BytesIO") + ")R}" + text("__setstate__") + global("builtins", "print") + "sb."},
		// A pickle under the name of a checkpoint, or under no known name.
		{id: "GHSA-jgw4-cr84-mqxg", file: "model.bin", in: attack},
		{id: "GHSA-769v-p64c-89pr", file: "weights.data", in: attack},
		{id: "GHSA-769v-p64c-89pr", file: "config.json", in: attack},
		// Archives whose records do not agree with their directory.
		{id: "GHSA-7q5r-7gvp-wc82", file: "model.pt", in: inTorch(zipPart{localName: "archive/datap.kl"})},
		{id: "GHSA-7q5r-7gvp-wc82", file: "model.zip", in: inZip(zipPart{localName: "data.lkp"})},
		{id: "GHSA-w8jq-xcqf-f792", file: "model.pt", in: inTorch(zipPart{flags: 1})},
		{id: "GHSA-w8jq-xcqf-f792", file: "model.zip", in: inZip(zipPart{flags: 0x20})},
		{id: "GHSA-mjqp-26hc-grxg", file: "model.pt", in: inTorch(zipPart{crc: 1})},
		{id: "GHSA-mjqp-26hc-grxg", file: "model.zip", in: inZip(zipPart{crc: 1})},
	}
}

// TestAdvisories: for every advisory that a rule names, a file of that kind is
// unsafe by that rule.
func TestAdvisories(t *testing.T) {
	t.Parallel()
	rules := map[string][]string{} // of an advisory
	for _, r := range scan.Rules() {
		for _, id := range r.References().Advisories {
			rules[id] = append(rules[id], r.ID)
		}
	}
	shown := map[string]bool{} // id and rule
	for _, a := range slices.Concat(torchAdvisories(), libraryAdvisories(), wayAdvisories()) {
		file := a.file
		if file == "" {
			file = "case.pkl"
		}
		var files []string
		for _, g := range a.gadgets {
			files = append(files, called(g))
		}
		if a.in != "" {
			files = append(files, a.in)
		}
		for _, in := range files {
			rep := verdictOf(t, file, in)
			by := slices.DeleteFunc(slices.Clone(rules[a.id]), func(rule string) bool { return !hasRule(rep, rule) })
			if rep.Verdict != scan.Unsafe || len(by) == 0 {
				t.Errorf("%s: %s, want unsafe by one of %v\n%s", a.id, rep.Verdict, rules[a.id], explain(rep))
			}
			for _, rule := range by {
				shown[a.id+" "+rule] = true
			}
		}
	}
	for id, of := range rules {
		for _, rule := range of {
			if strings.HasPrefix(id, "GHSA-") && !shown[id+" "+rule] {
				t.Errorf("%s names %s, and no row shows it", rule, id)
			}
		}
	}
}
