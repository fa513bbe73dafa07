package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

// signing is what all kinds of signatures have in common.
type signing struct {
	app     *app
	pin     pinSource
	account uint32
	quiet   bool
}

func (s *signing) flags(c *cobra.Command) {
	c.Flags().Uint32Var(&s.account, "account", 0, "the index of the account that signs")
	s.common(c)
}

func (s *signing) common(c *cobra.Command) {
	c.Flags().BoolVar(&s.quiet, "quiet", false, "do not show what will be signed")
	s.pin.flag(c)
}

// run is the body of a command that takes a wallet and something to sign: it
// reads the latter, once the PIN is known not to come by the same way.
func (s *signing) run(read func(c *cobra.Command, name string) ([]byte, error), sign func(*cobra.Command, target, []byte) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		if err := s.pin.check(c, args[1] == fromStdin); err != nil {
			return err
		}
		data, err := read(c, args[1])
		if err != nil {
			return err
		}
		return sign(c, t, data)
	}
}

// runFile is run for what stands in a file.
func (s *signing) runFile(sign func(*cobra.Command, target, []byte) error) func(*cobra.Command, []string) error {
	return s.run(func(c *cobra.Command, name string) ([]byte, error) { return s.app.readFile(c, name, maxTransaction) }, sign)
}

// index is nil unless it was given: an address names its account itself.
func (s *signing) index(c *cobra.Command) *uint32 {
	if !c.Flags().Changed("account") {
		return nil
	}
	return &s.account
}

// signer shows people whose signature it will be.
func (s *signing) signer(c *cobra.Command, t target) string {
	if i := s.index(c); i != nil {
		return fmt.Sprintf("account %d of %s", *i, t)
	}
	if t.address == "" {
		return "account 0 of " + t.String()
	}
	return t.String()
}

// tell shows a person, before the PIN, what the PIN will sign.
func (s *signing) tell(text string) {
	if !s.quiet && !s.app.json {
		fmt.Fprint(s.app.stderr, text)
	}
}

// authorise connects, shows what will be signed, asks for the PIN, and hands both
// connection and PIN to sign; the PIN is wiped afterwards.
func (s *signing) authorise(ctx context.Context, t target, text string, sign func(*ipc.Client, ipc.Secret) error) error {
	client, err := s.app.connectForPIN(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	s.tell(text)
	pin, err := s.pin.pin(ctx, s.pin.question(ctx, s.app, client, t))
	defer clear(pin)
	if err != nil {
		return err
	}
	return unsure(sign(client, pin))
}

// unsure says how to find out what became of a request without an answer: it
// may have cost a PIN attempt.
func unsure(err error) error {
	if err == nil {
		return nil
	}
	f := explain(err)
	switch f.wire.Reason {
	case ipc.ReasonTimeout, reasonLost, reasonInterrupted:
		f.next = "sigilctl wallet show tells whether an attempt was used; only then try again"
	}
	return f
}

// fromStdin is the argument that stands for standard input.
const fromStdin = "-"

// readFile reads a file, or standard input for "-", of at most limit bytes.
func (a *app) readFile(c *cobra.Command, name string, limit int64) ([]byte, error) {
	if name == fromStdin {
		return a.readStdin(c, limit)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, usage(c, "%v", err)
	}
	defer f.Close()
	return readAtMost(c, f, limit)
}

// readStdin gives up when the context ends, which a read from a terminal or a
// pipe would not notice.
func (a *app) readStdin(c *cobra.Command, limit int64) ([]byte, error) {
	type outcome struct {
		data []byte
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		data, err := readAtMost(c, a.stdin, limit)
		done <- outcome{data, err}
	}()
	select {
	case o := <-done:
		return o.data, o.err
	case <-c.Context().Done():
		return nil, c.Context().Err()
	}
}

func readAtMost(c *cobra.Command, r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	var path *os.PathError
	switch {
	case errors.As(err, &path):
		return nil, usage(c, "%v", err)
	case err != nil:
		return nil, fmt.Errorf("reading the input: %w", err)
	case int64(len(data)) > limit:
		return nil, usage(c, "the input is longer than %d bytes", limit)
	}
	return data, nil
}
