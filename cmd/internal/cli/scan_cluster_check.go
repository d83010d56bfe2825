package cli

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/workload"
)

// The states of a model that is in use: those of trust, and why there is none.
const (
	stateVerified    = trustVerified
	stateFailed      = "failed"
	stateUnsigned    = trustUnsigned
	stateUntrusted   = trustUntrusted
	stateUnsupported = "unsupported"
	stateInvalid     = "invalid"
	stateUnreachable = "unreachable"
	stateNotAModel   = "not-a-model"
	stateNotChecked  = "not-checked" // with --list
)

// stateCodes are the exit codes of the states that are not good.
func stateCodes() map[string]int {
	return map[string]int{
		stateFailed: exitPolicy, stateUnsigned: exitAttestation, stateUntrusted: exitAttestation,
		stateUnsupported: exitAttestation, stateInvalid: exitAttestation, stateUnreachable: exitNetwork,
	}
}

// clusterVerdict is what was found out about one reference.
type clusterVerdict struct {
	State         string `json:"state"`
	Digest        string `json:"digest,omitempty"` // what it leads to now
	Result        string `json:"result,omitempty"`
	Level         int    `json:"level"`
	WeightsDigest string `json:"weightsDigest,omitempty"`
	Detail        string `json:"detail,omitempty"`
}

// clusterChecker verifies references.
type clusterChecker struct {
	list    bool
	trusted attest.Trust
	policy  string
	opt     oci.Options
}

// checker finds out, before anything is read, whether verifying can work.
func (o *scanClusterOptions) checker(s *streams) (*clusterChecker, error) {
	c := &clusterChecker{list: o.list, policy: o.policy}
	if _, err := loadPolicy(o.policy); err != nil {
		return nil, err
	}
	var err error
	if c.trusted, err = o.trust.load(s); err != nil {
		return nil, err
	}
	c.opt, err = o.registry.options(s)
	return c, err
}

// all verifies each reference once, some at a time. Only the end of the context
// is an error.
func (c *clusterChecker) all(ctx context.Context, rows []workload.Row, bar *progress) (map[string]*clusterVerdict, error) {
	verdicts := map[string]*clusterVerdict{}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opt.Concurrency)
	anything := map[string]bool{} // references that may stand for something else than a model
	for _, r := range rows {
		if key := r.Reference.Key(); !r.AnyContent {
			anything[key] = false // one place that is for models alone is enough
		} else if _, known := anything[key]; !known {
			anything[key] = true
		}
	}
	for _, r := range rows {
		key := r.Reference.Key()
		if verdicts[key] != nil {
			continue
		}
		v := &clusterVerdict{State: stateNotChecked, Digest: r.Reference.Digest}
		verdicts[key] = v
		if c.settled(v, r.Reference) {
			continue
		}
		g.Go(func() error {
			bar.say("verify", r.Reference.Registry)
			done, err := c.one(gctx, r.Reference.Registry, anything[key])
			if err != nil {
				return err
			}
			mu.Lock()
			*v = done
			mu.Unlock()
			return nil
		})
	}
	return verdicts, g.Wait()
}

// settled judges what needs no registry.
func (c *clusterChecker) settled(v *clusterVerdict, ref workload.Reference) bool {
	switch {
	case ref.Problem != "":
		v.State, v.Detail = stateInvalid, ref.Problem
	case ref.Scheme != workload.OCI:
		v.State, v.Detail = stateUnsupported, "only what is in a registry carries a statement"
	case c.list:
	default:
		return false
	}
	return true
}

// one verifies a reference as the command verify does.
func (c *clusterChecker) one(ctx context.Context, ref string, anyContent bool) (clusterVerdict, error) {
	var v clusterVerdict
	checked, err := verifyReference(ctx, ref, c.trusted, c.policy, c.opt)
	if ctx.Err() != nil {
		return v, ctx.Err()
	}
	if err != nil {
		v.State, v.Detail = stateOf(err), err.Error()
		if checked != nil && v.State != stateUnreachable {
			v.Digest = checked.subject.Digest.String()
		}
		if anyContent && v.State == stateUnsigned {
			err = v.content(ctx, checked)
			return v, err
		}
		return v, nil
	}
	v.Digest, v.WeightsDigest = checked.subject.Digest.String(), checked.predicate.WeightsDigest
	v.Result, v.Level, _ = checked.predicate.Evaluate()
	v.State = stateVerified
	if !checked.decision.Allowed {
		v.State, v.Detail = stateFailed, "policy "+checked.decision.Policy+" does not allow it"
		for _, r := range checked.decision.Refusals() {
			at := ""
			if r.Path != "" {
				at = r.Path + ": "
			}
			v.Detail += "; " + at + r.Reason
		}
	}
	return v, nil
}

// stateOf is the state that an error of verify stands for.
func stateOf(err error) string {
	var verify *attest.VerifyError
	switch {
	case errors.Is(err, attest.ErrNoAttestation):
		return stateUnsigned
	case errors.Is(err, attest.ErrFailed):
		return stateFailed
	case errors.As(err, &verify):
		return stateUntrusted
	case errors.As(err, new(*oci.ReferenceError)):
		return stateInvalid
	}
	return stateUnreachable
}
