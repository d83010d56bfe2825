package cli

import "testing"

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"5GB": 5e9, "500MiB": 500 << 20, "1.5 GiB": 3 << 29, "10kb": 10_000, "7": 7, "7B": 7, "2TiB": 2 << 40, "0.5KB": 500,
		"": 0, "GB": 0, "0": 0, "-1GB": 0, "5XB": 0, "1e3": 0, "inf": 0, "0x10": 0, "9999999999TB": 0, "1.2.3": 0, "0.1B": 0,
	} {
		got, err := parseSize(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
}
