package scan

import (
	"context"
	"hash/maphash"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/weightseal/weightseal/model"
)

// jsonDetector judges JSON files: keys that make a loader import code, chat
// templates, Keras configurations, and the text itself.
type jsonDetector struct{}

func (jsonDetector) Name() string { return "json" }

// Wants also takes text that is only named JSON: many readers are more lenient
// than the standard.
func (jsonDetector) Wants(f model.File) bool {
	if isTemplateExt(ext(f.Path)) {
		return false // a template can be valid JSON
	}
	return f.Format == model.JSON || f.Format == model.Text && f.Declared == model.JSON
}

// maxConfig bounds the text of a configuration. Tokenizers with large
// vocabularies take tens of megabytes.
const maxConfig = 256 << 20

func (jsonDetector) Scan(_ context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Safe}
	if b.Size() > maxConfig {
		r.add("WS-LIMIT-001", -1, "a JSON text of more than %d bytes", maxConfig)
		return r.result()
	}
	if isPointer(head(b, b.Size(), 64)) {
		r.add("WS-TEXT-003", 0, "the content was not downloaded")
		return r.result()
	}
	scanJSON(r, path.Base(f.Path), b)
	return r.result()
}

// maxJSONKeys bounds the keys of the objects that are open, which are remembered
// to find those that are there twice.
const maxJSONKeys = 1 << 19

// scanJSON walks a JSON text. A text that breaks off is judged up to there.
func scanJSON(r *report, name string, b model.Blob) {
	lines := strings.HasSuffix(name, ".jsonl") || strings.HasSuffix(name, ".ndjson")
	c := &configWalk{r: r, name: strings.ToLower(name), seed: maphash.MakeSeed()}
	l := &jsonLexer{c: newCursor(b, 0, b.Size()), out: c}
	if err := l.run(lines); err != nil {
		r.add("WS-CONFIG-004", l.c.pos, "no valid JSON: %v", err)
	}
}

// configWalk judges the members of a JSON text as they come.
type configWalk struct {
	r     *report
	name  string // of the file
	stack []configLevel
	seed  maphash.Seed
	keys  int
}

type configLevel struct {
	object bool
	key    string
	keyAt  int64
	seen   map[uint64]struct{}
	index  int
	class  kerasObject
	skops  skopsNode
	// within are the keys of interest that lead to this level.
	within inside
}

// inside is a set of keys that a member can be under.
type inside uint8

const (
	inChatTemplate inside = 1 << iota
	inWeightMap
	inTypes
	inConfig
	inVocabulary
)

func insideOf(key string) inside {
	switch key {
	case "chat_template":
		return inChatTemplate
	case "weight_map":
		return inWeightMap
	case "types":
		return inTypes
	case "config":
		return inConfig
	case "vocab":
		return inVocabulary
	}
	return 0
}

func (c *configWalk) top() *configLevel {
	if len(c.stack) == 0 {
		return nil
	}
	return &c.stack[len(c.stack)-1]
}

func (c *configWalk) begin(kind byte, off int64) {
	c.value("", kind, off)
	l := configLevel{object: kind == '{', keyAt: off}
	if up := c.top(); up != nil {
		l.within = up.within
		if up.object {
			l.within |= insideOf(up.key)
		}
	}
	c.stack = append(c.stack, l)
}

func (c *configWalk) end() {
	l := c.top()
	if l.object {
		l.class.judge(c.r, l.keyAt)
		l.skops.judge(c.r, l.keyAt)
	}
	c.keys -= len(l.seen)
	c.stack = c.stack[:len(c.stack)-1]
}

func (c *configWalk) key(name string, off int64) {
	l := c.top()
	if l.seen == nil {
		l.seen = map[uint64]struct{}{}
	}
	n := len(l.seen)
	if c.keys >= maxJSONKeys {
		if c.keys == maxJSONKeys {
			c.r.add("WS-LIMIT-001", off, "more than %d keys at a time", maxJSONKeys)
		}
		n = -1
	} else {
		l.seen[maphash.String(c.seed, name)] = struct{}{}
	}
	c.keys += len(l.seen) - max(n, 0)
	if n < 0 {
		c.keys++ // only the first time is it said
		c.keys = min(c.keys, maxJSONKeys+1)
	}
	if len(l.seen) == n {
		rule := "WS-CONFIG-003"
		if isLoaderKey(name) || name == "class_name" || name == "config" && l.class.name != "" {
			rule = "WS-KERAS-003"
			if isLoaderKey(name) {
				rule = "WS-CONFIG-001"
			}
		}
		c.r.add(rule, off, "the key %q is there twice", clip(name))
	}
	l.key, l.keyAt = name, off
}

func (c *configWalk) text(s string, off int64)   { c.value(s, '"', off) }
func (c *configWalk) scalar(s string, off int64) { c.value(s, '0', off) }

// path gives the keys from the root to where the walk is, for messages.
func (c *configWalk) path() string {
	if len(c.r.findings) >= maxFindings {
		return clip(c.top().key) // will hardly be listed
	}
	var keys []string
	for _, l := range c.stack {
		if l.object {
			keys = append(keys, clip(l.key))
		}
	}
	return strings.Join(keys, ".")
}

// value judges a value; kind is '{', '[', '"' or '0', s its text.
func (c *configWalk) value(s string, kind byte, off int64) {
	l := c.top()
	if l == nil {
		return
	}
	if !l.object {
		l.index++
		c.element(s, kind, off, l.index-1)
		return
	}
	l.class.set(l.key, s, kind)
	if kind == '"' {
		l.skops.set(l.key, s)
		if n := len(c.stack); n > 1 {
			up := &c.stack[n-2]
			if l.key == "function" && up.key == "config" {
				up.class.function = s
			}
			if up.object && up.key == "content" {
				up.skops.setContent(l.key, s)
			}
		}
	}
	c.member(l.key, s, kind, l.keyAt)
}

// isLoaderKey knows the keys that make a loader import or call what they name.
var isLoaderKey = words(`auto_map trust_remote_code custom_pipelines custom_pipeline _target_ __target__ py/object py/reduce
py/function py/repr py/type py/module loader_module python_function custom_imports`)

// isVocabulary knows the files whose keys are the words that a tokenizer knows.
var isVocabulary = words(`vocab.json added_tokens.json encoder.json`)

// jsonpickle judges the members that jsonpickle acts on.
func (c *configWalk) jsonpickle(key, s string, off int64) {
	switch key {
	case "py/reduce", "py/function", "py/repr":
		c.r.add("WS-CONFIG-002", off, "%s: jsonpickle calls what it names", c.path())
	case "py/object", "py/type", "py/module":
		c.r.add("WS-CONFIG-001", off, "%s: jsonpickle imports %s", c.path(), clip(s))
	}
}

// member judges a member of an object.
func (c *configWalk) member(key, s string, kind byte, off int64) {
	if kind == '0' && (c.under(inVocabulary) || isVocabulary(c.name) && len(c.stack) == 1) {
		return // a word and its number
	}
	switch key {
	case "auto_map", "custom_pipelines", "custom_pipeline":
		if kind != '0' && s != "" || kind == '{' {
			c.r.add("WS-CONFIG-001", off, "%s makes the loader import Python files of the model", c.path())
		}
	case "trust_remote_code":
		if truthy(s) || kind == '{' || kind == '[' {
			c.r.add("WS-CONFIG-001", off, "%s allows the loader to run code of the model", c.path())
		}
	case "_target_", "__target__":
		if kind == '"' {
			c.r.add("WS-CONFIG-001", off, "%s names %s, which instantiating the configuration calls", c.path(), clip(s))
		}
	case "custom_imports":
		if kind != '0' {
			c.r.add("WS-CONFIG-001", off, "%s makes the loader import what it lists", c.path())
		}
	case "target", "class_path":
		if kind == '"' && isDotted(s) {
			c.r.add("WS-CONFIG-001", off, "%s names %s, which instantiating the configuration calls", c.path(), clip(s))
		}
	case "megatron_core":
		if kind == '"' && s != "megatron.core" {
			c.r.add("WS-CONFIG-001", off, "%s makes the loader import %s", c.path(), clip(s))
		}
	case "vocabulary":
		if kind == '"' && s != "" && outside(s) {
			c.r.add("WS-CONFIG-006", off, "%s is %q, which loading the model reads", c.path(), clip(s))
		} else if kind == '"' && s != "" && c.under(inConfig) {
			c.r.add("WS-CONFIG-005", off, "%s is %q, which loading the model reads", c.path(), clip(s))
		}
	case "irVersion", "ir_version":
		if len(c.stack) == 1 {
			c.r.add("WS-TEXT-002", off, "an ONNX model as text")
		}
	case "loader_module", "python_function":
		if kind == '"' {
			c.r.add("WS-CONFIG-001", off, "%s makes the loader import %s", c.path(), clip(s))
		}
	case "_attn_implementation", "attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset",
		"experts_implementation", "_experts_implementation", "_experts_implementation_internal":
		if kind == '"' && strings.Contains(s, "/") {
			c.r.add("WS-CONFIG-001", off, "%s makes the loader fetch code from %s", c.path(), clip(s))
		}
	case "chat_template", "template":
		if kind == '"' && (key == "chat_template" || c.under(inChatTemplate)) {
			c.template(s, off)
		}
	case "parent_library":
		if kind == '"' && !isModelPackage(topOf(s)) {
			c.r.add("WS-CONFIG-001", off, "%s makes the loader import %s", c.path(), clip(s))
		}
	case "base_model_name_or_path":
		if kind == '"' && outside(s) && s != "" {
			c.r.add("WS-CONFIG-005", off, "%s is %q", c.path(), clip(s))
		}
	case "path":
		if c.name == "modules.json" && s != "" && outside(s) {
			c.r.add("WS-CONFIG-006", off, "%s is %q", c.path(), clip(s))
		}
	case "type":
		if c.name == "modules.json" && kind == '"' && !strings.HasPrefix(s, "sentence_transformers.") {
			c.r.add("WS-CONFIG-001", off, "the module type %s is imported by its name", clip(s))
		}
	}
	c.named(key, s, kind, off)
	c.jsonpickle(key, s, off)
	if kind == '"' && c.under(inWeightMap) && strings.Contains(c.name, ".index.") && outside(s) {
		c.r.add("WS-CONFIG-006", off, "the tensor %s lies in %q", clip(key), clip(s))
	}
	if strings.HasPrefix(key, "__") && key != "__version__" && !isLoaderKey(key) && isAttributeConfig(c.name) {
		c.r.add("WS-CONFIG-001", off, "%s is set as a private attribute of the configuration", c.path())
	}
	if kind == '"' && c.under(inChatTemplate) && key != "template" && key != "name" {
		c.template(s, off)
	}
}

// template judges a template.
func (c *configWalk) template(s string, off int64) {
	checkTemplate(c.r, s, off, c.path())
	if len(s) > maxJSONText-utf8.UTFMax*2 { // it was cut
		c.r.add("WS-LIMIT-001", off, "%s: a template of more than %d bytes", c.path(), maxJSONText)
	}
}

// named judges keys by their ending, and templates.
func (c *configWalk) named(key, s string, kind byte, off int64) {
	if kind != '"' {
		return
	}
	switch {
	case strings.HasSuffix(key, "activation_function") || strings.HasSuffix(key, "activation_fn"):
		// sentence-transformers imports the name and calls it.
		if isDotted(s) && !strings.HasPrefix(s, "torch.nn.") {
			c.r.add("WS-CONFIG-001", off, "%s makes the loader import %s", c.path(), clip(s))
		}
	case c.under(inTypes) && (c.name == "router_config.json" || c.name == "config.json"):
		if isDotted(s) && !strings.HasPrefix(s, "sentence_transformers.") {
			c.r.add("WS-CONFIG-001", off, "the module type %s is imported by its name", clip(s))
		}
	case key != "chat_template" && strings.HasSuffix(key, "template") && !c.under(inChatTemplate):
		if strings.Contains(s, "{{") || strings.Contains(s, "{%") || len(s) > maxJSONText-utf8.UTFMax*2 {
			c.template(s, off)
		}
	}
}

// isAttributeConfig knows the files whose keys loaders set as attributes of an
// object.
var isAttributeConfig = words(`config.json generation_config.json adapter_config.json preprocessor_config.json processor_config.json
tokenizer_config.json image_processor_config.json feature_extractor_config.json`)

// isModelPackage knows the packages that a model's class may come from.
var isModelPackage = words(`transformers diffusers peft sentence_transformers timm torchvision optimum`)

func topOf(module string) string {
	top, _, _ := strings.Cut(module, ".")
	return top
}

// under says whether the walk is inside a member of the name.
func (c *configWalk) under(key inside) bool { return c.top().within&key != 0 }

// element judges an element of an array. A diffusers pipeline names its parts
// as [library, class]; a library that is none is a file of the model.
func (c *configWalk) element(s string, kind byte, off int64, index int) {
	if kind == '"' && c.name == "model_index.json" && index == 0 && len(c.stack) == 2 && !isPipelineLibrary(s) {
		c.r.add("WS-CONFIG-001", off, "%s: the library %q is a file of the model or of an unknown package", c.path(), clip(s))
	}
}

var isPipelineLibrary = words(`diffusers transformers onnxruntime optimum stable_diffusion flax k_diffusion peft sentencepiece
torch numpy schedulers`)
