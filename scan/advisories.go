package scan

import "strings"

// AdvisoryURL is where an advisory of References can be read: the GitHub
// Advisory Database, or the NVD for a CVE id.
func AdvisoryURL(id string) string {
	if strings.HasPrefix(id, "CVE-") {
		return "https://nvd.nist.gov/vuln/detail/" + id
	}
	return "https://github.com/advisories/" + id
}

// githubAdvisories gives the ids of the GitHub Advisory Database of attacks of
// a rule's kind, separated by blanks. They are advisories of scanners that a
// file passed, so each is a way to write one; TestAdvisories has a file for
// each.
func githubAdvisories(rule string) string {
	switch rule {
	case "WS-PICKLE-001":
		return "GHSA-cffv-grgg-g429 GHSA-mhc9-48gj-9gp3 GHSA-r48f-3986-4f9c"
	case "WS-PICKLE-002":
		return `
			GHSA-4675-36f9-wf6r GHSA-46h3-79wf-xr6c GHSA-49gj-c84q-6qm9 GHSA-4r9r-ch6f-vxmx GHSA-4whj-rm5r-c2v8
			GHSA-565g-hwwr-4pp3 GHSA-5cxw-w2xg-2m8h GHSA-5hvc-6wx8-mvv4 GHSA-5hwf-rc88-82xm GHSA-655q-fx9r-782v
			GHSA-6ggj-6f2q-f7mx GHSA-769v-p64c-89pr GHSA-7wx9-6375-f5wh GHSA-84r2-jw7c-4r5q GHSA-955r-x9j8-7rhh GHSA-9726-w42j-3qjr
			GHSA-97f8-7cmv-76j2 GHSA-9gvj-pp9x-gcfr GHSA-9m3x-qqw2-h32h GHSA-9w88-8rmg-7g2p GHSA-9xph-j2h6-g47v
			GHSA-f745-w6jp-hpxx GHSA-f7qq-56ww-84cr GHSA-fqq6-7vqf-w3fg GHSA-g38g-8gr9-h9xp GHSA-h3qp-7fh3-f8h4
			GHSA-h4rm-mm56-xf63 GHSA-hgrh-qx5j-jfwx GHSA-jgw4-cr84-mqxg GHSA-jhph-76pp-mggw GHSA-m273-6v24-x4m4
			GHSA-m6fh-58r7-x697 GHSA-m7j5-r2p5-c39r GHSA-p523-jq9w-64x9 GHSA-pc6j-px3p-rrj4 GHSA-q5qq-mvfm-j35x
			GHSA-r48f-3986-4f9c GHSA-r7v6-mfhq-g3m2 GHSA-r8g5-cgf2-4m4m GHSA-vqmv-47xg-9wpr GHSA-vr7h-p6mm-wpmh
			GHSA-vvpj-8cmc-gx39 GHSA-wfq2-52f7-7qvj GHSA-xp4f-hrf8-rxw7`
	case "WS-PICKLE-005":
		return `
			GHSA-3gf5-cxq9-w223 GHSA-3vg9-h568-4w9m GHSA-5j3x-jp52-966f GHSA-5qwp-399c-mjwf GHSA-6vqj-c2q5-j97w
			GHSA-6w4w-5w54-rjvr GHSA-7cq8-mj8x-j263 GHSA-86cj-95qr-2p4f GHSA-8r4j-24qv-fmq9 GHSA-cj3c-v495-4xqh
			GHSA-f4x7-rfwp-v3xw GHSA-f54q-57x4-jg88 GHSA-g344-hcph-8vgg GHSA-j343-8v2j-ff7w GHSA-m869-42cg-3xwr
			GHSA-p9w7-82w4-7q8m GHSA-q77w-mwjj-7mqx GHSA-vv6j-3g6g-2pvj GHSA-x696-vm39-cp64`
	case "WS-PICKLE-009":
		return "GHSA-mxhj-88fx-4pcv"
	case "WS-PICKLE-011":
		return "GHSA-mhc9-48gj-9gp3"
	case "WS-ARCHIVE-001":
		return "GHSA-7q5r-7gvp-wc82 GHSA-mjqp-26hc-grxg"
	case "WS-TORCH-003":
		return "GHSA-7q5r-7gvp-wc82 GHSA-mjqp-26hc-grxg GHSA-w8jq-xcqf-f792"
	case "WS-ARCHIVE-006":
		return "GHSA-w8jq-xcqf-f792"
	case "WS-NAME-001":
		return "GHSA-769v-p64c-89pr"
	}
	return ""
}
