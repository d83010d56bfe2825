package scan

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/weightseal/weightseal/format/dcp"
	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

// dcpDetector judges the metadata of a distributed checkpoint. The classes
// that it is made of are taken there only: a pickle that names anything else,
// or uses them in another way, is judged as any other.
type dcpDetector struct{}

func (dcpDetector) Name() string { return "dcp" }

func (dcpDetector) Wants(f model.File) bool { return f.Format == model.DCP }

func (dcpDetector) Scan(ctx context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	s, err := pickle.Load(b, 0, b.Size(), pickleLimits(b))
	if err == nil && s.End == b.Size() && dcp.Check(s) == nil {
		return Convertible, nil, nil
	}
	return pickleDetector{}.Scan(ctx, f, b)
}

// dcpShardDetector judges the files beside it: files of torch.save one after
// the other. Each is judged by itself, and no byte may lie between them.
type dcpShardDetector struct{}

func (dcpShardDetector) Name() string { return "dcp-shard" }

func (dcpShardDetector) Wants(f model.File) bool { return f.Format == model.DCPShard }

func (dcpShardDetector) Scan(ctx context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Convertible}
	for end := b.Size(); end > 0; {
		if err := ctx.Err(); err != nil {
			return r.verdict, r.findings, err
		}
		start, err := zipStart(b, end)
		if err != nil {
			r.add("WS-TORCH-003", end, "%v", err)
			if err := scanPieces(ctx, r, model.File{Format: model.TorchZip}, b); err != nil {
				return r.verdict, r.findings, err
			}
			break
		}
		if err := scanBlob(ctx, r, b, start, end); err != nil {
			return r.verdict, r.findings, err
		}
		if r.verdict >= Unknown {
			break
		}
		end = start
	}
	return r.result()
}

// scanBlob judges one torch.save file in a shard: a tensor, or an object.
func scanBlob(ctx context.Context, r *report, b model.Blob, start, end int64) error {
	in := &member{io.NewSectionReader(b, start, end-start), end - start, place{1, nest(b).budget, 0}}
	one := &report{verdict: Convertible}
	c, err := torch.Open(in, in.size, torch.Limits{Pickle: pickleLimits(b)})
	if c != nil {
		if jerr := judgeCheckpoint(ctx, one, in, c); jerr != nil {
			return jerr
		}
	}
	switch {
	case err != nil:
		one.broken(err)
	case len(c.Storages) > 0:
		selectTensors(one, c)
	}
	r.merge(fmt.Sprintf("blob at %d", start), one.verdict, one.findings)
	return nil
}

// zipStart finds where the archive that ends at end begins, from its end
// records (APPNOTE 4.3.14 to 4.3.16): the archive has no comment and nothing
// before its first entry.
func zipStart(b model.Blob, end int64) (int64, error) {
	bad := func(what string) (int64, error) {
		return 0, fmt.Errorf("what ends at byte %d is no file of torch.save: %s", end, what)
	}
	var e [22]byte
	if end < 22 || !readAll(b, e[:], end-22) || string(e[:4]) != "PK\x05\x06" || e[20] != 0 || e[21] != 0 {
		return bad("no end record")
	}
	le := binary.LittleEndian
	size, offset, tail := uint64(le.Uint32(e[12:])), uint64(le.Uint32(e[16:])), end-22
	var loc [20]byte
	if tail >= 20 && readAll(b, loc[:], tail-20) && string(loc[:4]) == "PK\x06\x07" {
		var z [56]byte
		if tail < 76 || !readAll(b, z[:], tail-76) || string(z[:4]) != "PK\x06\x06" {
			return bad("no ZIP64 end record")
		}
		size, offset, tail = le.Uint64(z[40:]), le.Uint64(z[48:]), tail-76
	}
	if size > math.MaxInt64 || offset > math.MaxInt64 || int64(size) > tail || int64(offset) > tail-int64(size) {
		return bad("its directory would begin before the file")
	}
	return tail - int64(size) - int64(offset), nil
}

func readAll(b model.Blob, p []byte, off int64) bool {
	n, _ := b.ReadAt(p, off)
	return n == len(p)
}
