package workload

import "strings"

// kserveGroup is the API group of KServe's kinds.
const kserveGroup = "serving.kserve.io"

// storage reads one of KServe's fields that name a model; false when the key is
// none of them. Source: KServe, pkg/apis/serving: storageUri of predictors and
// trained models, storageUris[].uri, the uri of an LLMInferenceService's model
// and of its adapters, sourceModelUri of the model caches, and storage with a
// key and a path, whose bucket is in a secret.
func (e *extractor) storage(place, key string, v any) bool {
	switch key {
	case "storageUri", "sourceModelUri":
		if uri := e.textAt(place, v); uri != "" {
			e.add(Use{Place: place, Via: "KServe " + key, Certainty: Declared, Reference: ParseURI(uri)})
		}
		return true
	case "uri":
		if uri := text(v); strings.Contains(uri, "://") {
			e.add(Use{Place: place, Via: "KServe uri", Certainty: Declared, Reference: ParseURI(uri)})
			return true
		}
	case "storage":
		m, ok := v.(map[string]any)
		if !ok {
			return false
		}
		uri := text(m["storageUri"])
		if path := text(m["path"]); path != "" || text(m["key"]) != "" {
			uri = "storage://" + strings.TrimSuffix(text(m["key"])+"/"+strings.TrimPrefix(path, "/"), "/")
		}
		if uri != "" {
			e.add(Use{Place: place, Via: "KServe storage", Certainty: Declared, Reference: ParseURI(uri)})
			return true
		}
	}
	return false
}
