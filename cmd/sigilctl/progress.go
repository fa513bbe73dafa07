package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// progress is one line on a person's terminal that tells how far something
// long is. Where standard error is no terminal, it says nothing.
type progress struct {
	to    io.Writer
	shown bool
}

func (a *app) progress() *progress {
	p := &progress{to: io.Discard}
	if f, ok := a.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.to = f
	}
	return p
}

// show puts a text in the line's place.
func (p *progress) show(format string, values ...any) {
	fmt.Fprintf(p.to, "\r\x1b[K"+format, values...)
	p.shown = true
}

// end takes the line away.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
