package manual

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// page is a man page in the macros of man(7).
type page struct{ strings.Builder }

func newPage(c *cobra.Command, section, exitCodes string) string {
	p := new(page)
	root := c.Root()
	fmt.Fprintf(p, ".TH %q %q %q %q\n", strings.ToUpper(dashed(c)), section, day(), root.Name()+" "+root.Version)
	p.heading("NAME")
	p.lines(dashed(c) + " - " + c.Short)
	p.heading("SYNOPSIS")
	fmt.Fprintf(p, ".B %s\n", escape(c.UseLine()))
	if c.Long != "" {
		p.heading("DESCRIPTION")
		p.text(c.Long)
	}
	p.commands(c, section)
	p.options("OPTIONS", c.NonInheritedFlags())
	p.options("OPTIONS OF EVERY COMMAND", c.InheritedFlags())
	if c.Example != "" {
		p.heading("EXAMPLES")
		p.verbatim(strings.Split(c.Example, "\n"))
	}
	if exitCodes != "" {
		p.heading("EXIT STATUS")
		p.text(strings.Trim(exitCodes, "\n"))
	}
	p.seeAlso(c, section)
	return p.String()
}

// day is that of SOURCE_DATE_EPOCH (reproducible-builds.org), or none: the same
// program gives the same pages.
func day() string {
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return ""
	}
	return time.Unix(epoch, 0).UTC().Format(time.DateOnly)
}

func (p *page) heading(text string) { fmt.Fprintf(p, ".SH %s\n", text) }

func (p *page) lines(text string) {
	for line := range strings.SplitSeq(text, "\n") {
		p.WriteString(escape(line) + "\n")
	}
}

// text writes paragraphs; one whose lines are indented keeps its lines.
func (p *page) text(text string) {
	for n, paragraph := range strings.Split(text, "\n\n") {
		if n > 0 {
			p.WriteString(".PP\n")
		}
		lines := strings.Split(strings.Trim(paragraph, "\n"), "\n")
		first := 0
		for first < len(lines) && !strings.HasPrefix(lines[first], " ") {
			p.lines(lines[first])
			first++
		}
		if first < len(lines) {
			p.verbatim(lines[first:])
		}
	}
}

func (p *page) verbatim(lines []string) {
	p.WriteString(".nf\n")
	p.lines(strings.Join(lines, "\n"))
	p.WriteString(".fi\n")
}

func (p *page) commands(c *cobra.Command, section string) {
	if len(shown(c)) == 0 {
		return
	}
	p.heading("COMMANDS")
	for _, child := range shown(c) {
		fmt.Fprintf(p, ".TP\n.BR %s (%s)\n", escape(dashed(child)), section)
		p.lines(child.Short)
	}
}

func (p *page) options(title string, flags *pflag.FlagSet) {
	begun := false
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if !begun {
			p.heading(title)
			begun = true
		}
		value, usage := pflag.UnquoteUsage(f)
		fmt.Fprintf(p, ".TP\n.B %s\n", escape(option(f, value)))
		p.lines(usage)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "[]" && f.DefValue != "-1" {
			p.lines("The default is " + f.DefValue + ".")
		}
	})
}

func option(f *pflag.Flag, value string) string {
	text := "--" + f.Name
	if f.Shorthand != "" {
		text = "-" + f.Shorthand + ", " + text
	}
	if value != "" {
		text += " " + value
	}
	return text
}

func (p *page) seeAlso(c *cobra.Command, section string) {
	if !c.HasParent() {
		return
	}
	p.heading("SEE ALSO")
	fmt.Fprintf(p, ".BR %s (%s)\n", escape(dashed(c.Parent())), section)
}

// escape keeps text from being taken for roff: backslashes, hyphens that are to
// be copied into a shell, and control characters at the beginning of a line.
func escape(line string) string {
	line = strings.ReplaceAll(line, `\`, `\e`)
	line = strings.ReplaceAll(line, "-", `\-`)
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		line = `\&` + line
	}
	return line
}
