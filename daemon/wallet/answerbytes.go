package wallet

import "github.com/sigild/sigild/daemon/seal"

// What JSON adds to the texts of a wallet, in bytes, at most: names of members,
// numbers, times and keys.
const (
	walletFrame  = 600
	accountFrame = 320
	sourceFrame  = 160
	policyFrame  = 3 << 10 // 256 selectors are the most of it
)

// AnswerBytes is about what the wallet takes in an answer, as JSON: not less, and
// seldom much more. Counting is a lot cheaper than encoding, and nothing is held.
func (i *Info) AnswerBytes() int {
	h, s := i.Header, i.State
	n := walletFrame + policyBytes(h.Policy) + len(h.Accounts)*accountFrame
	for _, text := range []string{h.Owner, s.Label, s.ExternalID, s.FrozenBy} {
		n += textBytes(text)
	}
	for _, list := range [][]string{h.Dropped, s.Tags, s.AccountLabels} {
		for _, text := range list {
			n += textBytes(text)
		}
	}
	for _, source := range h.Sources {
		n += sourceBytes(&source)
	}
	return n
}

func sourceBytes(s *seal.Source) int {
	n := sourceFrame
	for _, text := range []string{s.Name, s.RequestID, s.Region, s.Manufacturer, s.Model, s.Version} {
		n += textBytes(text)
	}
	return n
}

// policyBytes takes an encoded policy for its texts. Of its entries a selector grows
// by the most: from five bytes to thirteen.
func policyBytes(encoded []byte) int {
	n := textBytes(string(encoded))
	return min(3*n, n+policyFrame)
}

// textBytes is a text in quotes and with a comma, where json.Marshal escapes what it
// may: six bytes for one of ASCII, and for the three of U+2028.
func textBytes(text string) int {
	n := len(text) + 3
	for _, b := range []byte(text) {
		switch {
		case b < ' ' || b == '"' || b == '\\' || b == '<' || b == '>' || b == '&':
			n += 5
		case b >= 0x80:
			n++
		}
	}
	return n
}
