// Package manual writes the man pages of a program from its command tree, so
// that they cannot say anything else than --help. It writes roff itself: the
// generator that comes with cobra goes through Markdown, which runs the lines of
// tables and examples together, and would link three more modules into programs
// that handle PINs and keys.
package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// Command returns the hidden command "man DIR". It writes one page for each
// command of its root into the existing folder DIR, in a section of the manual:
// "1" for programs of everybody, "8" for those of administrators. exitCodes is
// the text about exit codes that every page ends with.
func Command(section, exitCodes string) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the man pages into a folder",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			c.Root().InitDefaultCompletionCmd()
			return writeTree(c.Root(), args[0], section, exitCodes)
		},
	}
}

func writeTree(c *cobra.Command, dir, section, exitCodes string) error {
	name := dashed(c) + "." + section
	page := newPage(c, section, exitCodes)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(page), 0o644); err != nil {
		return fmt.Errorf("man page: %w", err)
	}
	for _, child := range shown(c) {
		if err := writeTree(child, dir, section, exitCodes); err != nil {
			return err
		}
	}
	return nil
}

// shown are the commands below c that people are told of.
func shown(c *cobra.Command) (list []*cobra.Command) {
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() {
			list = append(list, child)
		}
	}
	return list
}

// dashed is a command's name as its page is called: "sigilctl-wallet-create".
func dashed(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }
