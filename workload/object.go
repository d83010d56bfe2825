package workload

import "strings"

// reduce keeps of an object what names models.
func reduce(m map[string]any, origin Origin) (*Object, error) {
	o := &Object{APIVersion: text(m["apiVersion"]), Kind: text(m["kind"]), Origin: origin}
	meta, _ := m["metadata"].(map[string]any)
	o.Name, o.Namespace, o.UID = text(meta["name"]), text(meta["namespace"]), text(meta["uid"])
	if o.Name == "" {
		o.Name = text(meta["generateName"])
	}
	o.Owner = owner(meta["ownerReferences"])
	if o.Owner != nil && o.Owner.Kind == "Node" && o.Owner.APIVersion == "v1" {
		o.Owner = nil // a static pod is nobody's but its own
	}
	e := &extractor{object: o, kserve: o.Group() == kserveGroup, core: isCore(o)}
	if !passedOver(o) {
		for _, key := range sortedKeys(m) {
			if key != "metadata" && key != "status" {
				e.walk(key, m[key], 0)
			}
		}
		if spec, ok := m["spec"]; ok && e.core {
			e.mapAt("spec", spec)
		}
	}
	if e.err != nil {
		return nil, e.err
	}
	if o.Kind == "Pod" && o.APIVersion == "v1" {
		podStatus(o, m)
	}
	if spec, ok := m["spec"].(map[string]any); ok && o.Kind == "ReplicaSet" && o.APIVersion == "apps/v1" {
		o.Idle = spec["replicas"] == number("0")
	}
	return o, nil
}

// passedOver says whether an object only describes fields, or is a template
// that was in use before.
func passedOver(o *Object) bool {
	return o.Group() == "apiextensions.k8s.io" || o.Kind == "ControllerRevision" && o.Group() == "apps"
}

// isCore says whether the fields of an object have types that are known here.
func isCore(o *Object) bool {
	switch o.APIVersion {
	case "v1", "apps/v1", "batch/v1":
		switch o.Kind {
		case "Pod", "ReplicationController", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "PodTemplate":
			return true
		}
	}
	return false
}

// owner gives the controller, or else the first owner.
func owner(v any) *Owner {
	list, _ := v.([]any)
	var first *Owner
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok || text(m["kind"]) == "" || text(m["name"]) == "" {
			continue
		}
		o := &Owner{APIVersion: text(m["apiVersion"]), Kind: text(m["kind"]), Name: text(m["name"]), UID: text(m["uid"])}
		if m["controller"] == true {
			return o
		}
		if first == nil {
			first = o
		}
	}
	return first
}

// podStatus reads which digests run. A container's imageID has had several
// forms (docker-pullable://, an ID without a repository); a digest after an @ is
// the one of the manifest that was pulled. The status of a mounted volume has
// it in the same form (Kubernetes 1.35, feature ImageVolumeWithDigest).
func podStatus(o *Object, m map[string]any) {
	status, _ := m["status"].(map[string]any)
	phase := text(status["phase"])
	o.Ended = phase == "Succeeded" || phase == "Failed"
	spec, _ := m["spec"].(map[string]any)
	running := map[string]string{}
	for _, pair := range [][2]string{{"containers", "containerStatuses"}, {"initContainers", "initContainerStatuses"}, {"ephemeralContainers", "ephemeralContainerStatuses"}} {
		places := map[string]string{}
		for _, c := range indexed("spec."+pair[0], spec[pair[0]]) {
			places[text(c.value["name"])] = c.place + ".image"
		}
		list, _ := status[pair[1]].([]any)
		for _, item := range list {
			s, _ := item.(map[string]any)
			if d := manifestDigest(text(s["imageID"])); d != "" && places[text(s["name"])] != "" {
				running[places[text(s["name"])]] = d
			}
			volumes(running, spec, s)
		}
	}
	if len(running) > 0 {
		o.Running = running
	}
}

// volumes reads the digests of a container's image volumes.
func volumes(running map[string]string, spec, status map[string]any) {
	for _, mount := range indexed("", status["volumeMounts"]) {
		vs, _ := mount.value["volumeStatus"].(map[string]any)
		image, _ := vs["image"].(map[string]any)
		d := manifestDigest(text(image["imageRef"]))
		if d == "" {
			continue
		}
		for _, v := range indexed("spec.volumes", spec["volumes"]) {
			if text(v.value["name"]) == text(mount.value["name"]) {
				running[v.place+".image.reference"] = d
			}
		}
	}
}

type indexedMap struct {
	place string
	value map[string]any
}

func indexed(place string, v any) []indexedMap {
	list, _ := v.([]any)
	maps := make([]indexedMap, 0, len(list))
	for i, item := range list {
		m, _ := item.(map[string]any)
		maps = append(maps, indexedMap{index(place, i), m})
	}
	return maps
}

func manifestDigest(imageID string) string {
	at := strings.LastIndexByte(imageID, '@')
	if at < 0 || !digestPattern().MatchString(imageID[at+1:]) {
		return ""
	}
	return imageID[at+1:]
}
