package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/internal/helmplugin"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/policy"
)

// Whom to trust comes from the environment only: whoever writes a URL into a
// chart must not choose the key that it is checked with.
const (
	envKey       = "WEIGHTSEAL_KEY"        // public key files, separated as in PATH
	envPolicy    = "WEIGHTSEAL_POLICY"     // the policy, as --policy
	envPlainHTTP = "WEIGHTSEAL_PLAIN_HTTP" // "true" or "1", as --plain-http
)

// downloadLimit is for a file of a model that goes through Helm, which keeps
// it in memory.
const downloadLimit = 64 << 20

// newHelmDownload is what Helm 3 and 4 call for weightseal+oci:// URLs, with
// certificate, key, authority and URL (helm pkg/getter/plugingetter.go). What
// it prints is what the URL stands for.
func newHelmDownload(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:    "helm-download CERT KEY CA URL",
		Short:  "Helm's downloader for " + helmplugin.Scheme + "://",
		Hidden: true,
		Args:   exactArgs("CERT", "KEY", "CA", "URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != "" || args[1] != "" {
				return usage("leave out --cert-file and --key-file; --ca-file ca.pem names an authority", "certificates of a client are not supported for %s://", helmplugin.Scheme)
			}
			return runHelmDownload(cmd.Context(), s, args[2], args[3])
		},
	}
}

// helmURL is what a URL asks for.
type helmURL struct {
	ref    string // REGISTRY/REPOSITORY[:TAG][@DIGEST]
	file   string // the path of one file
	values string // the key for a document of values
	asFile bool
	asVals bool
}

func parseHelmURL(text string) (*helmURL, error) {
	hint := fmt.Sprintf("%[1]s://REGISTRY/REPOSITORY:TAG is a chart, with ?values a document of values, with ?file=PATH a file", helmplugin.Scheme)
	rest, ok := strings.CutPrefix(text, helmplugin.Scheme+"://")
	if !ok {
		return nil, usage(hint, "%q is no %s:// URL", text, helmplugin.Scheme)
	}
	ref, query, _ := strings.Cut(rest, "?")
	asked, err := url.ParseQuery(query)
	if err != nil || ref == "" {
		return nil, usage(hint, "%q is no %s:// URL", text, helmplugin.Scheme)
	}
	u := &helmURL{ref: ref, file: asked.Get("file"), values: asked.Get("values"), asFile: asked.Has("file"), asVals: asked.Has("values")}
	if u.values == "" {
		u.values = "model"
	}
	for name := range asked {
		if name != "file" && name != "values" {
			return nil, usage(hint, "%q has an unknown part: %s", text, name)
		}
	}
	if u.asFile && (u.asVals || u.file == "") {
		return nil, usage(hint, "%q: want ?file=PATH or ?values", text)
	}
	return u, nil
}

func runHelmDownload(ctx context.Context, s *streams, caFile, text string) error {
	u, err := parseHelmURL(text)
	if err != nil {
		return err
	}
	keys := filepath.SplitList(s.getenv(envKey))
	if len(keys) == 0 {
		return usage("export "+envKey+"=cosign.pub", "nobody to trust: %s names no public key", envKey)
	}
	policyName := s.getenv(envPolicy)
	if policyName == "" {
		policyName = policy.DefaultName
	}
	flags := registryFlags{concurrency: 1, caFile: caFile, plainHTTP: isTrue(s.getenv(envPlainHTTP))}
	opt, err := flags.options(s)
	if err != nil {
		return err
	}
	opt.Username, opt.Password = s.getenv("HELM_PLUGIN_USERNAME"), s.getenv("HELM_PLUGIN_PASSWORD")
	trusted, err := trust(s, keys)
	if err != nil {
		return err
	}
	c, err := verifyReference(ctx, u.ref, trusted, policyName, opt)
	if err != nil {
		return err
	}
	if err := denied(s, c.decision); err != nil {
		return err
	}
	content, err := u.content(ctx, c)
	if err != nil {
		return err
	}
	_, err = s.out.Write(content)
	return err
}

func isTrue(s string) bool { return s == "true" || s == "1" }

// content is what goes to Helm, in full and checked before the first byte does.
func (u *helmURL) content(ctx context.Context, c *checkedModel) ([]byte, error) {
	switch {
	case u.asFile:
		return c.file(ctx, u.file)
	case u.asVals:
		return c.helmValues(u.values)
	}
	return c.helmChart(u.ref)
}

// file fetches one file of a verified model.
func (c *checkedModel) file(ctx context.Context, name string) ([]byte, error) {
	files, err := oci.Files(c.manifest)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Path != name {
			continue
		}
		if f.Size > downloadLimit {
			return nil, usage("pull it: weightseal pull "+c.store.Reference(c.subject.Digest.String())+" DIR --key cosign.pub",
				"%s has %d bytes, and Helm keeps what it downloads in memory: at most %d", name, f.Size, downloadLimit)
		}
		body, err := c.store.Fetch(ctx, f.Descriptor)
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(body)
		return content, errors.Join(err, body.Close())
	}
	return nil, fail(exitError, fmt.Errorf("the model has no file %s", name), "weightseal inspect "+c.store.Reference(c.subject.Digest.String())+" lists them")
}

// modelFacts is what a chart is told of a verified model.
type modelFacts struct {
	Reference     string      `json:"reference"`
	Repository    string      `json:"repository"`
	Digest        string      `json:"digest"`
	WeightsDigest string      `json:"weightsDigest"`
	Result        string      `json:"result"`
	Level         int         `json:"level"`
	Policy        string      `json:"policy"`
	Files         []modelFile `json:"files"`
}

type modelFile struct {
	Path   string `json:"path"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	Role   string `json:"role"`
}

// helmValues is a document of values, as JSON, which YAML reads.
func (c *checkedModel) helmValues(key string) ([]byte, error) {
	result, level, _ := c.predicate.Evaluate()
	digest := c.subject.Digest.String()
	facts := modelFacts{
		Reference: c.store.Reference(digest), Digest: digest, WeightsDigest: c.predicate.WeightsDigest,
		Result: result, Level: level, Policy: c.decision.Policy, Files: []modelFile{},
	}
	facts.Repository = strings.TrimSuffix(facts.Reference, "@"+digest)
	for _, f := range c.predicate.Files {
		facts.Files = append(facts.Files, modelFile{f.Path, f.LayerDigest, f.Size, f.Role})
	}
	content, err := json.MarshalIndent(map[string]modelFacts{key: facts}, "", "  ")
	return append(content, '\n'), err
}

const chartTemplate = `apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ printf "%s-model" .Release.Name | trunc 63 | trimSuffix "-" }}
  labels:
    app.kubernetes.io/managed-by: {{ .Release.Service }}
    app.kubernetes.io/instance: {{ .Release.Name }}
    helm.sh/chart: {{ .Chart.Name }}
data:
  reference: {{ .Values.model.reference | quote }}
  digest: {{ .Values.model.digest | quote }}
  weightsDigest: {{ .Values.model.weightsDigest | quote }}
  result: {{ .Values.model.result | quote }}
  level: {{ .Values.model.level | quote }}
  policy: {{ .Values.model.policy | quote }}
`

// helmChart is a chart that carries what was verified: its values, a ConfigMap
// of them, and the signed statement. The weights stay in the registry, to be
// named by digest.
func (c *checkedModel) helmChart(ref string) ([]byte, error) {
	values, err := c.helmValues("model")
	if err != nil {
		return nil, err
	}
	name := chartName(ref)
	about, err := json.MarshalIndent(map[string]string{
		"apiVersion": "v2", "name": name, "type": "application",
		"version":     "0.0.0-sha256-" + c.subject.Digest.Encoded()[:12],
		"appVersion":  c.subject.Digest.String(),
		"description": "The verified model " + c.store.Reference(c.subject.Digest.String()),
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = helmplugin.Archive(&b, name, time.Unix(0, 0),
		helmplugin.File{Path: "Chart.yaml", Content: about},
		helmplugin.File{Path: "values.yaml", Content: values},
		helmplugin.File{Path: "templates/configmap.yaml", Content: []byte(chartTemplate)},
		helmplugin.File{Path: "statement.json", Content: c.verified.Payload()},
	)
	return b.Bytes(), err
}

var notInChartName = regexp.MustCompile(`[^a-z0-9-]+`)

// chartName makes a chart's name of the last part of a repository.
func chartName(ref string) string {
	repository, _, _ := strings.Cut(ref, "@")
	base, _, _ := strings.Cut(path.Base(repository), ":")
	name := strings.Trim(notInChartName.ReplaceAllString(strings.ToLower(base), "-"), "-")
	if len(name) > 50 {
		name = strings.TrimRight(name[:50], "-")
	}
	if name == "" {
		return "model"
	}
	return name
}
