package oci_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

// Credentials come from docker's configuration and its helpers. Not parallel:
// docker finds both by environment variables.
func TestDockerCredentials(t *testing.T) {
	addr := fp.Start(t, inProcess(t, false), basicAuth("user", "secret")).Addr
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	helper := "#!/bin/sh\ncat >/dev/null\necho '{\"ServerURL\":\"x\",\"Username\":\"user\",\"Secret\":\"secret\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(helper), 0o700); err != nil {
		t.Fatal(err)
	}
	auth := base64.StdEncoding.EncodeToString([]byte("user:secret"))
	for name, test := range map[string]struct {
		config string
		ok     bool
	}{
		"auths":       {fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, addr, auth), true},
		"credHelpers": {fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, addr), true},
		"credsStore":  {fmt.Sprintf(`{"credsStore":"test","auths":{%q:{}}}`, addr), true},
		"other-host":  {fmt.Sprintf(`{"auths":{"other.example":{"auth":%q}}}`, auth), false},
		"nothing":     {`{}`, false},
	} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(test.config), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, addr+"/team/model")
		_, err := s.PushBlob(t.Context(), blobOf(ocitest.Random(5<<20, 1)))
		if test.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !test.ok {
			checkError(t, err, is(oci.ErrUnauthorized))
		}
	}
}
