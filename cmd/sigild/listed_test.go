package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryRecordedReasonIsListed holds docs/rpc.md against what the conversations
// show: a method's section, the list for all methods, or that of the PIN channel
// where the section names it, has each reason that it answered with.
func TestEveryRecordedReasonIsListed(t *testing.T) {
	text, err := os.ReadFile("../../docs/rpc.md")
	if err != nil {
		t.Fatal(err)
	}
	document := string(text)
	general := listedReasons(t, document, "Every method")
	channel := listedReasons(t, document, "The PIN channel's own errors")
	listed := map[string][]string{}
	for _, section := range strings.Split(document, "<!-- method: ")[1:] {
		method, body, _ := strings.Cut(section, " -->")
		body, _, _ = strings.Cut(body, "\n## ")
		listed[method] = append(listedReasons(t, body, "Errors"), general...)
		if strings.Contains(body, "those of [the PIN channel]") {
			listed[method] = append(listed[method], channel...)
		}
	}
	missing := map[string]bool{}
	for _, e := range conversations(t) {
		known, documented := listed[e.Method]
		if !documented || e.Reason == "" || slices.Contains(known, e.Reason) { // a batch, or no method
			continue
		}
		missing[e.Method+": "+e.Reason] = true
	}
	for what := range missing {
		t.Errorf("docs/rpc.md does not list %s", what)
	}
}

// listedReasons are those of the paragraph that begins with head and a colon.
func listedReasons(t *testing.T, text, head string) (reasons []string) {
	t.Helper()
	paragraph := regexp.MustCompile(`(?ms)^` + regexp.QuoteMeta(head) + `: (.*?)(\n\n|\z)`).FindStringSubmatch(text)
	if paragraph == nil {
		t.Fatalf("no list of errors begins with %q", head)
	}
	for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(paragraph[1], -1) {
		reasons = append(reasons, m[1])
	}
	return reasons
}
