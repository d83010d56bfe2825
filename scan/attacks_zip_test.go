package scan_test

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

// zipPart is an entry of a zip archive as a test wants it: what is not set is
// as a writer would have it.
type zipPart struct {
	name, data string
	localName  string // another name in the local header
	localData  int    // how much longer the local header says the entry is
	flags      uint16
	localFlags uint16
	method     uint16
	crc        uint32 // added to the right one, in the local header
	noLocal    bool   // only in the directory, at the place of the first entry
	noCentral  bool   // only as a local header
	before     string // bytes before the local header
	mode       uint32 // of Unix
	extra      string
}

// rawZip writes an archive as it is told.
func rawZip(parts ...zipPart) string {
	le := binary.LittleEndian
	var out, dir []byte
	count := 0
	for _, p := range parts {
		out = append(out, p.before...)
		at := len(out)
		sum := crc32.ChecksumIEEE([]byte(p.data))
		local := p.name
		if p.localName != "" {
			local = p.localName
		}
		if !p.noLocal {
			out = append(out, "PK\x03\x04\x14\x00"...)
			out = le.AppendUint16(out, p.flags^p.localFlags)
			out = le.AppendUint16(out, p.method)
			out = append(out, 0, 0, 0, 0)
			out = le.AppendUint32(out, sum+p.crc)
			out = le.AppendUint32(out, uint32(len(p.data)+p.localData))
			out = le.AppendUint32(out, uint32(len(p.data)+p.localData))
			out = le.AppendUint16(out, uint16(len(local)))
			out = le.AppendUint16(out, 0)
			out = append(append(out, local...), p.data...)
		} else {
			at = 0
		}
		if p.noCentral {
			continue
		}
		count++
		dir = append(dir, "PK\x01\x02\x14\x03\x14\x00"...)
		dir = le.AppendUint16(dir, p.flags)
		dir = le.AppendUint16(dir, p.method)
		dir = append(dir, 0, 0, 0, 0)
		dir = le.AppendUint32(dir, sum)
		dir = le.AppendUint32(dir, uint32(len(p.data)))
		dir = le.AppendUint32(dir, uint32(len(p.data)))
		dir = le.AppendUint16(dir, uint16(len(p.name)))
		dir = le.AppendUint16(dir, uint16(len(p.extra)))
		dir = append(dir, 0, 0, 0, 0, 0, 0)
		dir = le.AppendUint32(dir, p.mode<<16)
		dir = le.AppendUint32(dir, uint32(at))
		dir = append(append(dir, p.name...), p.extra...)
	}
	at := len(out)
	out = append(out, dir...)
	out = append(out, "PK\x05\x06\x00\x00\x00\x00"...)
	out = le.AppendUint16(out, uint16(count))
	out = le.AppendUint16(out, uint16(count))
	out = le.AppendUint32(out, uint32(len(dir)))
	out = le.AppendUint32(out, uint32(at))
	return string(append(out, 0, 0))
}

// entry is an ordinary entry.
func entry(name, data string) zipPart { return zipPart{name: name, data: data} }

// commented is an archive with a comment.
func commented(comment string, parts ...zipPart) string {
	s := rawZip(parts...)
	return s[:len(s)-2] + string([]byte{byte(len(comment)), 0}) + comment
}

// checksum is the CRC of a record as headers have it.
func checksum(data string) string { return le32s(int(crc32.ChecksumIEEE([]byte(data)))) }

const (
	pickledTensor = "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00K\x04\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
	oneTensor     = "\x80\x02}X\x01\x00\x00\x00w" + pickledTensor + "s."
	storage16     = "0123456789abcdef"
	evilPickle    = "\x80\x02cos\nsystem\n)R."
)

// Containers that two readers could see differently.
func TestTorchAttacks(t *testing.T) {
	t.Parallel()
	conv, review, unsafe := scan.Convertible, scan.Review, scan.Unsafe
	good := []zipPart{entry("a/data.pkl", oneTensor), entry("a/data/0", storage16), entry("a/version", "3\n")}
	with := func(more ...zipPart) string { return rawZip(append(append([]zipPart{}, good...), more...)...) }
	change := func(i int, f func(*zipPart)) string {
		parts := append([]zipPart{}, good...)
		f(&parts[i])
		return rawZip(parts...)
	}
	evil := []zipPart{entry("a/data.pkl", evilPickle), entry("a/version", "3\n")}
	decoy := func(p zipPart) string { return rawZip(append([]zipPart{p}, evil...)...) }
	magic := "\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
	protocol, system := "\x80\x02M\xe9\x03.", "\x80\x02}(X\x10\x00\x00\x00protocol_versionM\xe9\x03X\x0d\x00\x00\x00little_endian\x88X\x0a\x00\x00\x00type_sizes}(X\x05\x00\x00\x00shortK\x02X\x03\x00\x00\x00intK\x04X\x04\x00\x00\x00longK\x04uu."
	legacyDict := strings.Replace(oneTensor, "K\x04tQ", "K\x04NtQ", 1)
	keys := "\x80\x02]X\x01\x00\x00\x000a."
	data := "\x04\x00\x00\x00\x00\x00\x00\x00" + storage16
	legacy := func(parts ...string) string { return strings.Join(parts, "") }
	storage := legacy(magic, protocol, system, "\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04NtQ.", keys, data)
	loaded := func(b string) string {
		return "\x80\x03" + global("torch.storage", "_load_from_bytes") + "B" + le32s(len(b)) + b + "\x85R"
	}
	tests := []attack{
		{"Z", "good", "a.pt", rawZip(good...), conv, ""},
		{"Z", "plain data, a storage beside it", "a.pt", change(0, func(p *zipPart) { p.data = "\x80\x02}X\x02\x00\x00\x00lrK\x01s." }), review, "WS-TORCH-002"},
		{"Z", "plain data", "a.pt", rawZip(entry("a/data.pkl", "\x80\x02}X\x02\x00\x00\x00lrK\x01s."), entry("a/version", "3\n")), conv, "WS-TORCH-008"},
		{"Z", "storages alone", "a.pt", change(0, func(p *zipPart) {
			p.data = "\x80\x02}X\x01\x00\x00\x00w(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQs."
		}), review, "WS-TORCH-011"},
		{"Z1", "encrypted decoy", "a.pt", decoy(zipPart{name: "a/x", data: "x", flags: 1}), unsafe, "WS-PICKLE-002"},
		{"Z1", "patched decoy", "a.pt", decoy(zipPart{name: "a/x", data: "x", flags: 0x20}), unsafe, "WS-PICKLE-002"},
		{"Z1", "strongly encrypted decoy", "a.pt", decoy(zipPart{name: "a/x", data: "x", flags: 0x40}), unsafe, "WS-PICKLE-002"},
		{"Z1", "decoy of an unknown method", "a.pt", decoy(zipPart{name: "a/x", data: "x", method: 97}), unsafe, "WS-PICKLE-002"},
		{"Z1", "decoy in a plain archive", "a.zip", rawZip(zipPart{name: "x", data: "x", flags: 1}, entry("y.pkl", evilPickle)), unsafe, "WS-PICKLE-002"},
		{"Z1", "decoy that cannot be inflated", "a.zip", rawZip(zipPart{name: "x", data: "\xff\xff", method: 8}, entry("y.pkl", evilPickle)), unsafe, "WS-PICKLE-002"},
		{"Z1", "hidden directory flag", "a.pt", change(1, func(p *zipPart) { p.flags = 0x2000 }), unsafe, ""},
		{"Z2", "local name", "a.pt", change(0, func(p *zipPart) { p.localName = "a/data.pkx" }), unsafe, ""},
		{"Z2", "local checksum", "a.pt", change(0, func(p *zipPart) { p.crc = 1 }), unsafe, ""},
		{"Z2", "local size", "a.pt", change(0, func(p *zipPart) { p.localData = 1 }), unsafe, ""},
		{"Z2", "local flags", "a.pt", change(0, func(p *zipPart) { p.localFlags = 1 }), unsafe, ""},
		{"Z2", "local name of a storage", "a.pt", change(1, func(p *zipPart) { p.localName = "a/data/1" }), unsafe, ""},
		{"Z2", "second name", "a.pt", change(1, func(p *zipPart) { p.extra = "up\x0d\x00\x01\x00\x00\x00\x00a/data/9" }), unsafe, "WS-TORCH-003"},
		{"Z2", "second name in a plain archive", "a.zip", rawZip(zipPart{name: "a.txt", data: "x", extra: "up\x0a\x00\x01\x00\x00\x00\x00a.pkl"}), unsafe, "WS-ARCHIVE-001"},
		{"Z3", "twice, evil last", "a.pt", with(entry("a/data.pkl", evilPickle)), unsafe, "WS-PICKLE-002"},
		{"Z3", "twice, evil first", "a.pt", rawZip(append([]zipPart{entry("a/data.pkl", evilPickle)}, good...)...), unsafe, "WS-PICKLE-002"},
		{"Z3", "a storage twice", "a.pt", with(entry("a/data/0", storage16)), unsafe, ""},
		{"Z4", "upper case", "a.pt", with(entry("A/DATA.PKL", evilPickle)), unsafe, "WS-PICKLE-002"},
		{"Z4", "upper case alone", "a.pt", rawZip(entry("a/DATA.PKL", evilPickle)), unsafe, "WS-PICKLE-002"},
		{"Z5", "bytes before", "a.pt", change(0, func(p *zipPart) { p.before = "#!/bin/sh\n" }), unsafe, ""},
		{"Z5", "bytes between", "a.pt", change(1, func(p *zipPart) { p.before = evilPickle }), unsafe, "WS-PICKLE-002"},
		{"Z5", "bytes behind", "a.pt", rawZip(good...) + evilPickle, unsafe, ""},
		{"Z5", "entry without a directory record", "a.pt", with(zipPart{name: "a/evil.pkl", data: evilPickle, noCentral: true}), unsafe, "WS-PICKLE-002"},
		{"Z5", "archive in a record", "a.pt", with(entry("a/x.zip", zipOf("y.pkl", evilPickle))), unsafe, "WS-PICKLE-002"},
		{"Z5", "pickle in another record", "a.pt", with(entry("a/extra", evilPickle)), unsafe, "WS-PICKLE-002"},
		{"Z5", "pickle of protocol 0 in another record", "a.pt", with(entry("a/extra", "cos\nsystem\n(S'ls'\ntR.")), unsafe, "WS-PICKLE-002"},
		{"Z6", "short storage", "a.pt", change(1, func(p *zipPart) { p.data = "0123" }), unsafe, ""},
		{"Z6", "storage missing", "a.pt", rawZip(good[0], good[2]), unsafe, ""},
		{"Z6", "tensor larger than its storage", "a.pt", change(0, func(p *zipPart) { p.data = strings.Replace(p.data, "QK\x00K\x04\x85", "QK\x00K\x08\x85", 1) }), unsafe, ""},
		{"Z7", "two roots", "a.pt", with(entry("b/data.pkl", evilPickle)), unsafe, "WS-PICKLE-002"},
		{"Z7", "two roots, both plain", "a.pt", with(entry("b/x", "y")), unsafe, ""},
		{"Z7", "climbs", "a.pt", with(entry("a/../../x", "y")), unsafe, ""},
		{"Z7", "symbolic link", "a.pt", with(zipPart{name: "a/x", data: "/etc/passwd", mode: 0xa1ff}), unsafe, ""},
		{"Z7", "shared library", "a.pt2", with(entry("a/x.so", "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 64))), unsafe, "WS-CODE-001"},
		{"Z7", "source", "a.pt", with(entry("a/x.py", "import torch\n")), review, "WS-CODE-002"},
		{"Z7", "TorchScript", "a.pt", with(entry("a/constants.pkl", "\x80\x02)."), entry("a/code/__torch__.py", "class A:\n  pass\n")), review, "WS-TORCH-005"},
		{"Z7", "TorchScript with a payload in the constants", "a.pt", with(entry("a/constants.pkl", evilPickle), entry("a/code/__torch__.py", "x")), unsafe, "WS-PICKLE-002"},
		{"Z7", "TorchScript with a payload in the debug tables", "a.pt", with(entry("a/constants.pkl", "\x80\x02)."), entry("a/code/__torch__.py.debug_pkl", evilPickle)), unsafe, "WS-PICKLE-002"},
		{"Z7", "TorchScript with a payload beside it", "a.pt", with(entry("a/constants.pkl", "\x80\x02)."), entry("a/code/__torch__.py", "x"), entry("a/extra/x", evilPickle)), unsafe, "WS-PICKLE-002"},
		{"Z7", "TorchScript with a library among its code", "a.pt", with(entry("a/constants.pkl", "\x80\x02)."), entry("a/code/__torch__.py", "x"), entry("a/code/x.so", "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 64))), unsafe, "WS-CODE-001"},
		{"Z7", "TorchScript with notes", "a.pt", with(entry("a/constants.pkl", "\x80\x02)."), entry("a/code/__torch__.py", "x"), entry("a/extra/info.json", "{}"), entry("a/extra/x", "\xff\x00\x01")), review, "WS-TORCH-005"},
		{"Z5", "payload as the version", "a.pt", change(2, func(p *zipPart) { p.data = evilPickle }), unsafe, "WS-PICKLE-002"},
		{"Z5", "payload as the identity", "a.pt", with(entry("a/.data/serialization_id", evilPickle)), unsafe, "WS-PICKLE-002"},
		{"Z5", "odd version", "a.pt", change(2, func(p *zipPart) { p.data = "x" }), review, "WS-TORCH-002"},
		{"Z5", "payload in the comment", "a.pt", commented(evilPickle, good...), unsafe, "WS-PICKLE-002"},
		{"Z5", "comment", "a.pt", commented("hello", good...), review, "WS-TORCH-002"},
		{"Z5", "padding of the directory with content", "a.pt", change(1, func(p *zipPart) { p.extra = "FB\x04\x00evil" }), review, "WS-TORCH-002"},
		{"Z5", "times that are none", "a.pt", change(1, func(p *zipPart) { p.extra = "UT\x20\x00" + strings.Repeat("x", 32) }), review, "WS-TORCH-002"},
		{"Z2", "wrong checksum in both places", "a.pt", strings.ReplaceAll(rawZip(good...), checksum(oneTensor), "abcd"), unsafe, "WS-TORCH-001"},
		{"Z2", "no checksum, as torch can be told", "a.pt", strings.ReplaceAll(rawZip(good...), checksum(oneTensor), "\x00\x00\x00\x00"), review, "WS-TORCH-002"},
		{"G4", "persistent id of another kind", "a.pt", change(0, func(p *zipPart) { p.data = "\x80\x02}X\x01\x00\x00\x00wX\x01\x00\x00\x00xQs." }), unsafe, ""},
		{"G4", "module by its persistent id", "a.pt", change(0, func(p *zipPart) {
			p.data = "\x80\x02}X\x01\x00\x00\x00w(X\x06\x00\x00\x00moduleX\x01\x00\x00\x00xNNtQs."
		}), unsafe, ""},
		{"O9", "second pickle in the record", "a.pt", change(0, func(p *zipPart) { p.data += evilPickle }), unsafe, ""},

		{"T1", "legacy", "a.pt", legacy(magic, protocol, system, legacyDict, keys, data), conv, ""},
		{"T1", "legacy, evil magic", "a.pt", legacy("\x80\x02cos\nsystem\n)R0\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", protocol, system, legacyDict, keys, data), unsafe, "WS-PICKLE-002"},
		{"T1", "legacy, evil protocol", "a.pt", legacy(magic, evilPickle, system, legacyDict, keys, data), unsafe, "WS-PICKLE-002"},
		{"T1", "legacy, evil system", "a.pt", legacy(magic, protocol, evilPickle, legacyDict, keys, data), unsafe, "WS-PICKLE-002"},
		{"T1", "legacy, evil object", "a.pt", legacy(magic, protocol, system, evilPickle, keys), unsafe, "WS-PICKLE-002"},
		{"T1", "legacy, evil keys", "a.pt", legacy(magic, protocol, system, legacyDict, evilPickle, data), unsafe, "WS-PICKLE-002"},
		{"T1", "legacy, bytes behind", "a.pt", legacy(magic, protocol, system, legacyDict, keys, data, "x"), unsafe, ""},
		{"T1", "legacy, evil pickle behind", "a.pt", legacy(magic, protocol, system, legacyDict, keys, data, evilPickle), unsafe, ""},
		{"T1", "legacy, storage cut", "a.pt", legacy(magic, protocol, system, legacyDict, keys, data[:16]), unsafe, ""},
		{"T1", "pickled storage", "a.pkl", loaded(storage) + ".", review, "WS-PICKLE-021"},
		{"T1", "pickled storage, changed", "a.pkl", loaded(storage) + "}X\x01\x00\x00\x00aNsb.", unsafe, "WS-PICKLE-024"},
		{"T1", "pickled storage, evil", "a.pkl", loaded(legacy(magic, protocol, system, evilPickle, keys)) + ".", unsafe, "WS-PICKLE-002"},
		{"T1", "pickled storage that is a pickle", "a.pkl", loaded("\x80\x02N.") + ".", unsafe, "WS-PICKLE-007"},
		{"T1", "pickled storage, not loaded", "a.pkl", "\x80\x03" + global("torch.storage", "_load_from_bytes") + ".", unsafe, "WS-PICKLE-001"},
		{"T1", "checkpoint named a model", "a.model", rawZip(good...), conv, ""},
		{"T2", "tar of torch, evil", "a.pt", tarOf("sys_info", "\x80\x02}.", "pickle", evilPickle, "tensors", "\x80\x02K\x00.", "storages", "\x80\x02K\x00."), unsafe, "WS-PICKLE-002"},
		{"T2", "tar of torch, evil storages", "a.pt", tarOf("sys_info", "\x80\x02}.", "pickle", "\x80\x02}.", "tensors", "\x80\x02K\x00.", "storages", evilPickle), unsafe, "WS-PICKLE-002"},
		{"T2", "gzip of a checkpoint", "a.pt.gz", gzipOf(rawZip(good...)), review, "WS-ARCHIVE-010"},
		{"T2", "zip as a storage's name", "a.pt", change(1, func(p *zipPart) { p.data = zipOf("x", "y") }), review, "WS-TORCH-002"},
	}
	checkAttacks(t, tests)
}
