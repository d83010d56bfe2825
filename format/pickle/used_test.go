package pickle_test

import (
	"testing"

	"github.com/weightseal/weightseal/format/pickle"
)

// What a call has read may not change afterwards; what it will never see, or
// what only shares it, may.
func TestMutatedArguments(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, data string
		want       int64 // offset of the change, 0 for none
	}{
		{"list", "cm\nf\n(]q\x01tR0h\x01K\x01a.", 16},
		{"list, nothing appended", "cm\nf\n(]q\x01tR0h\x01(e.", 0},
		{"list before", "cm\nf\n(]q\x01K\x01atR.", 0},
		{"item of a list", "cm\nf\n(](K\x01eq\x01tR0h\x01K\x00K\x02s.", 22},
		{"pair of a list", "cm\nf\n(](]q\x01etR0h\x01K\x01a.", 19},
		{"dict", "cm\nf\n(}q\x01tR0h\x01K\x01K\x02s.", 18},
		{"dict of NEWOBJ", "cm\nf\n(}q\x01t\x810h\x01K\x01K\x02s.", 18},
		{"dict in a tuple", "cm\nf\n((}q\x01ttR0h\x01(K\x01K\x02u.", 21},
		{"keywords", "\x80\x04cm\nf\n)}q\x01\x920h\x01K\x01K\x02s.", 19},
		{"INST", "(]q\x01im\nf\n0h\x01K\x01a.", 14},
		{"OBJ", "(cm\nf\n]q\x01o0h\x01K\x01a.", 15},
		{"set", "\x80\x04cm\nf\n\x8fq\x01\x85R0h\x01(K\x01\x90.", 18},
		{"state", "cm\nf\n)R}q\x01b0h\x01K\x01K\x02s.", 18},
		{"slots", "cm\nf\n)RN}q\x01\x86b0h\x01K\x01K\x02s.", 20},
		{"value of a state", "cm\nf\n)R}K\x01]q\x01sb0h\x01K\x02a.", 0},
		{"persistent id", "]q\x01Q0h\x01K\x01a.", 9},
		{"object", "cm\nf\n)Rq\x01\x85cm\ng\nh\x01\x85R0h\x01K\x01a.", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, _ := load(tt.data)
			var at int64
			for _, f := range s.Findings {
				if f.Rule == pickle.RuleMutated {
					at = f.Offset
				}
			}
			if at != tt.want {
				t.Errorf("found at %d, want %d: %v", at, tt.want, s.Findings)
			}
		})
	}
}
